"""Generated domains: deterministic, unpaired in training, paired when held out."""

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from data import scenes
from data.scenes import HELD_OUT, SHADE, SHADES, TRANSLATIONS, draw_scene, generate, to_uint8
from tests.conftest import call, raises_user_error, refusal


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_arguments_write_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        generate("season", tmp_path / name, train=3, test=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    generate("season", tmp_path / "three", train=3, test=2, seed=1)
    assert content(tmp_path / "one") != content(tmp_path / "three")


@pytest.mark.parametrize("kind", TRANSLATIONS)
def test_held_out_images_are_pairs_and_training_images_show_other_scenes(tmp_path, kind):
    generate(kind, tmp_path / "out", train=4, test=2, size=32)
    for number in range(2):
        scene = draw_scene(32, 0, HELD_OUT, number, shade=SHADES.get(kind, SHADE))
        for folder, pixels in (("testA", scene.pixels), ("testB", TRANSLATIONS[kind](scene))):
            written = np.array(Image.open(tmp_path / "out" / folder / f"{number:04d}.png"))
            assert np.array_equal(written, to_uint8(pixels))
    pictures = [path.read_bytes() for path in (tmp_path / "out").rglob("*A/*.png")]
    assert len(set(pictures)) == 6
    assert json.loads((tmp_path / "out/dataset.json").read_text())["pairs"] == {
        "paint": "forward", "tints": "none"
    }.get(kind, "both")  # fmt: skip


def test_copying_the_input_scores_about_10_db_on_season():
    pairs = [draw_scene(64, 0, HELD_OUT, number) for number in range(16)]
    errors = [np.square(s.pixels - TRANSLATIONS["season"](s)).mean() for s in pairs]
    assert 8.5 < -10 * np.log10(np.mean(errors)) < 11


def test_tints_differ_from_scene_to_scene_and_keep_the_shades():
    scenes_drawn = [draw_scene(64, 0, HELD_OUT, number) for number in range(16)]
    assert len({tuple(scene.tint) for scene in scenes_drawn}) == 16
    for scene in scenes_drawn:
        toned = TRANSLATIONS["tints"](scene)
        light = scene.pixels @ np.array([0.299, 0.587, 0.114])
        assert np.allclose(toned.max(axis=-1), light)  # the brightest channel is the grey picture
        assert scene.tint.max() == 1.0


def test_a_zebra_changes_in_its_ellipses_only():
    for number in range(8):
        scene = draw_scene(64, 0, HELD_OUT, number)
        changed = (TRANSLATIONS["zebra"](scene) != scene.pixels).any(-1)
        assert not (changed & (scene.depth == 0)).any()
        assert changed.any() == (scene.depth > 0).any()


def test_a_finished_set_is_left_alone_and_other_content_is_not_overwritten(tmp_path, capsys):
    out = tmp_path / "out"
    assert call(scenes, "season", out, "train=2", "test=1")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert call(scenes, "season", out, "train=2", "test=1")[0] == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert refusal(scenes, "paint", out).path == str(out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["season"],
        ["seasons", "x"],
        ["season", "x", "sise=3"],
        ["season", "x", "size=1"],
        ["season", "x", "train=many"],
    ],
)
def test_bad_words_are_answered_in_one_line(words):
    code, error = call(scenes, *words)
    assert code == 2 and error


def test_an_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with raises_user_error(path=tmp_path / "file"):
        generate("season", tmp_path / "file", train=1, test=1)


def test_nothing_is_left_of_scenes_that_could_not_be_finished(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(scenes.Image.Image, "save", full)
    with raises_user_error(path=tmp_path / "s"):
        scenes.generate("season", tmp_path / "s", train=1, test=1, size=16)
    assert not list(tmp_path.iterdir())
