"""Styles of a trained run: selected on the command line, drawn in grids, and evaluated."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import test as test_command
import train
import translate
from inference.open_run import open_run
from inference.style_selection import interpolate_styles, mix_styles, select_style, truncate_style
from options.config import StyleOptions
from tests.conftest import call, picture, refusal

WORDS = [
    "data.load_size=20", "data.crop_size=16", "data.workers=0", "log.wandb=disabled",
    "validation_images=2", "runtime.device=cpu", "log.previews=2", "duration=2 steps",
    "batch_size=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def styled(photos, tmp_path_factory):
    """A tiny StarGAN v2 of two steps: its styles have several blocks."""
    run = tmp_path_factory.mktemp("styled") / "run"
    small = ["method.size=16", "method.generator.layers=1"] + [
        f"method.{part}.channels=4"
        for part in ("generator", "mapping", "style_encoder", "discriminator")
    ]
    code, error = call(train, "stargan_v2", f"data.root={photos}", f"run={run}", *small, *WORDS)
    assert code == 0, error
    return run


def translated(run, photos, out, *words) -> np.ndarray:
    file = sorted((photos / "testA").iterdir())[0]
    code, error = call(translate, run, file, out, "direction=a_to_b", *words)
    assert code == 0, error
    return np.asarray(picture(out)).astype(int)


def test_previews_show_sources_in_the_styles_of_references(styled):
    names = {path.name for path in (styled / "previews").iterdir()}
    assert "step_00000002_a_to_b_styles.png" in names
    # Two references above two rows of a source and its two translations: 96 pixels, gaps of 4.
    assert picture(styled / "previews/step_00000002_a_to_b_styles.png").size == (
        304,
        16 + 3 * 100 + 4,
    )


def test_a_style_is_a_number_or_a_picture_and_the_same_twice(styled, photos, tmp_path):
    reference = sorted((photos / "testB").iterdir())[0]
    mean = translated(styled, photos, tmp_path / "0.png")
    one = translated(styled, photos, tmp_path / "1.png", "style.first=1")
    again = translated(styled, photos, tmp_path / "2.png", "style.first=1")
    other = translated(styled, photos, tmp_path / "3.png", "style.first=2")
    encoded = translated(styled, photos, tmp_path / "4.png", f"style.first={reference}")
    assert (one == again).all()
    assert len({x.tobytes() for x in (mean, one, other, encoded)}) == 4


def test_styles_are_interpolated_mixed_and_truncated(styled):
    run = open_run(styled)
    translator = run.translators["a_to_b"]
    first, second = (translator.sample_style(1, seed=n) for n in (1, 2))
    mean = translator.mean_style()

    def selected(**options):
        return select_style(run, "a_to_b", StyleOptions(first="1", **options))

    assert selected().equal(first)
    assert torch.allclose(
        selected(second="2", interpolation=0.25), interpolate_styles(first, second, 0.25)
    )
    assert torch.allclose(selected(truncation=0.0), mean)
    assert torch.allclose(selected(truncation=0.5), truncate_style(first, mean, 0.5))
    mixed = selected(second="2", mixing_blocks=2)
    assert torch.allclose(mixed, mix_styles(first, second, translator.style_blocks, 2))
    assert select_style(run, "a_to_b", StyleOptions()) is None


@pytest.mark.parametrize(
    ("words", "option", "path"),
    [
        (["style.first=nowhere.png"], "style.first", "nowhere.png"),
        (["style.first=99999999999999999999"], "style.first", ""),
        (["style.mixing_blocks=1"], "style.mixing_blocks", ""),
        (["style.first=1", "style.second=2", "style.mixing_blocks=99"], "style.mixing_blocks", ""),
    ],
)
def test_invalid_styles_are_refused(styled, photos, tmp_path, words, option, path):
    words = [styled, photos / "testA", tmp_path / "o", "direction=a_to_b", *words]
    assert call(translate, *words)[0] == 2
    error = refusal(translate, *words)
    assert (error.option, error.path) == (option, path)
    assert not (tmp_path / "o").exists()


def test_a_style_is_refused_for_a_run_without_styles(trained, photos, tmp_path):
    words = [trained, photos / "testA", tmp_path / "o", "direction=a_to_b", "style.first=1"]
    code, error = call(translate, *words)
    assert code == 2 and "a_to_b" in error
    error = refusal(translate, *words)
    assert (error.option, error.path) == ("style.first", str(trained))


def test_an_evaluation_measures_diversity_and_draws_a_style_sheet(styled, capsys):
    assert call(test_command, styled)[0] == 0
    metrics = json.loads((styled / "test/metrics.json").read_text())["directions"]["a_to_b"]
    assert metrics["diversity"] > 0
    assert 0 <= metrics["style_followed"] <= 1
    page = (styled / "test/report.html").read_text()
    assert 'class="sheet"' in page
    assert "diversity" in capsys.readouterr().out


def test_a_folder_of_pictures_is_translated_in_the_style_of_a_jpeg(styled, photos, tmp_path):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "reference.jpg")
    out = tmp_path / "out"
    words = [f"style.first={tmp_path / 'reference.jpg'}", "direction=a_to_b"]
    assert call(translate, styled, photos / "testA", out, *words)[0] == 0
    assert len(list(out.iterdir())) == 3
