"""Paths that no file system can hold are refused in one line, wherever a path is expected."""

from pathlib import Path

import pytest

import data.doctor.__main__ as doctor
import export
import test
import train
import translate
from common.errors import UserError
from common.user_paths import page_path, parse_path
from comparison import metrics_table as side_by_side
from comparison import preference, reproducibility, seeds
from data import download, scenes
from deployment.templates import run_onnx
from tests.conftest import call, raises_user_error, refusal

LONG = ["x" * 5000, "/".join(["y" * 200] * 40), "~/" + "z" * 300, "/".join(["w" * 200] * 19)]
EXPECTED = {
    "a preset": (train, ["{}"]),
    "a preset's file": (train, ["{}.yaml"]),
    "run": (train, ["demo", "run={}", "duration=1 steps"]),
    "data.root": (train, ["cyclegan", "data.root={}"]),
    "data.train": (train, ["cyclegan", "data.train.a={}", "data.train.b={}"]),
    "data.disk_cache": (train, ["demo", "run={run}", "data.disk_cache={}", "duration=1 steps"]),
    "init_from": (train, ["demo", "run={run}", "init_from={}", "duration=1 steps"]),
    "a run to evaluate": (test, ["{}"]),
    "inception": (test, ["{trained}", "inception={}"]),
    "a run to translate with": (translate, ["{}", "a.png", "b.png"]),
    "pictures": (translate, ["{trained}", "{}", "out", "direction=a_to_b"]),
    "a place": (translate, ["{trained}", "{photos}", "{}", "direction=a_to_b"]),
    "a mask": (translate, ["{trained}", "{photos}", "out", "direction=a_to_b", "mask={}"]),
    "a run to export": (export, ["{}"]),
    "a bundle": (export, ["{trained}", "out={}", "direction=a_to_b"]),
    "a comparison": (side_by_side, ["{}", "{}"]),
    "a preference": (preference, ["{}", "{}"]),
    "a repetition": (reproducibility, ["{}", "{}"]),
    "a summary": (seeds, ["{}", "{}"]),
    "the doctor": (doctor, ["{}"]),
    "scenes": (scenes, ["season", "{}"]),
    "a download": (download, ["horse2zebra", "{}"]),
}


@pytest.mark.parametrize("word", LONG, ids=["a name", "a path", "at home", "no room below"])
@pytest.mark.parametrize("place", EXPECTED)
def test_a_path_that_is_not_valid_is_refused_in_a_short_line(
    place, word, trained, photos, tmp_path
):
    command, words = EXPECTED[place]
    known = {"trained": trained, "photos": photos, "run": tmp_path / "run"}
    words = [w.format(word, **known) for w in words]
    code, line = call(command, *words)
    assert code == 2
    if place in ("run", "data.root", "data.disk_cache", "init_from", "inception"):
        assert f"{place}=" in line
        assert refusal(command, *words).option == place
    assert len(line.splitlines()) == 1 and len(line) < 200, line


def test_a_path_is_expanded_as_in_a_shell(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_path("~/a") == Path("/home/me/a")
    assert parse_path("~no-such-user/a") == Path("~no-such-user/a")  # then it is a folder's name
    assert parse_path("") == Path()
    with raises_user_error(option="out", path="a\0b"):
        parse_path("a\0b", "out")


@pytest.mark.parametrize("module", [reproducibility, preference])
def test_a_page_does_not_overwrite_other_files(module, trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "loop.html").symlink_to(tmp_path / "loop.html")
    for out in ("", tmp_path, tmp_path / "notes.txt", tmp_path / "loop.html"):
        code, line = call(module, trained, trained, f"out={out}")
        assert code == 2 and (f"out={out}" in line or "evaluate" in line), line
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with raises_user_error(option="out", path=tmp_path / "notes.txt"):
        page_path(tmp_path / "notes.txt")
    (tmp_path / "old.html").write_text("a page")
    assert page_path(tmp_path / "old.html") == tmp_path / "old.html"


def test_a_long_path_in_a_message_is_shortened_and_the_advice_is_not():
    assert str(UserError(f"/{'x' * 300}: no such folder; name one")).endswith(
        ": no such folder; name one"
    )


def test_an_empty_output_and_a_loop_of_links_are_refused(trained, photos, tmp_path):
    assert call(translate, trained, photos, "", "direction=a_to_b")[0] == 2
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    words = (trained, photos, tmp_path / "loop", "direction=a_to_b")
    assert call(translate, *words)[0] == 2
    assert refusal(translate, *words).path == str(tmp_path / "loop")


def test_the_doctor_checks_its_output_folder_before_it_reads_images(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file/below", ""):
        code, line = call(doctor, photos, f"out={out}")
        assert code == 2 and "out=" in line
    assert "reading" not in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("word", LONG[:3])
def test_the_program_in_a_bundle_refuses_them_too(word):
    with pytest.raises(run_onnx.Mistake, match="too long"):
        run_onnx.named_path(word)
