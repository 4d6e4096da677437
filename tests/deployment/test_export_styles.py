"""Translators with styles are exported with one fixed style."""

import json

import numpy as np
import pytest
from PIL import Image

import export
import train
import translate
from options.config import TrainOptions
from options.introspection import option_fields
from tests.conftest import SMALLEST, TINY, call, picture, refusal, shrink

for package in ("safetensors", "onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)


def small_words(name: str) -> list[str]:
    known = {field.name for field in option_fields(TrainOptions, {"method": type(shrink(name))})}
    wanted = [word for word in TINY if word.partition("=")[0] in known]
    sizes = [
        f"{field}={SMALLEST[leaf]}"
        for field in known
        if field.startswith("method.") and (leaf := field.rpartition(".")[2]) in SMALLEST
    ]
    return [*dict.fromkeys([*wanted, *sizes])]


@pytest.fixture(scope="module", params=["munit", "stargan_v2", "adain"])
def run(request, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("styled") / request.param
    words = [
        request.param,
        f"data.root={photos}",
        f"run={folder}",
        "duration=2 steps",
        "ema_half_life=2",
    ]
    assert call(train, *words, *small_words(request.param)) == (0, "")
    return folder


def test_a_bundle_translates_as_its_run_with_the_exported_style(run, photos, tmp_path):
    words = ("direction=a_to_b", "style.first=7")
    formats = "formats=[safetensors,onnx,pt2]"
    assert call(export, run, f"out={tmp_path / 'out'}", formats, *words) == (0, "")
    bundle = tmp_path / "out/a_to_b"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["style"]["first"] == "7"
    assert "model.onnx" in manifest["files"], manifest["parity"]["rejected"]

    here = ("runtime.device=cpu",)
    assert call(translate, run, photos / "testA", tmp_path / "styled", *words, *here) == (0, "")
    assert call(translate, run, photos / "testA", tmp_path / "mean", words[0], *here) == (0, "")
    assert call(translate, bundle, photos / "testA", tmp_path / "bundle", *here) == (0, "")
    pictures = {
        name: [np.asarray(picture(p)) for p in sorted((tmp_path / name).rglob("*.png"))]
        for name in ("styled", "mean", "bundle")
    }
    assert len(pictures["styled"]) == 3
    same = zip(pictures["styled"], pictures["bundle"], strict=True)
    assert all(np.array_equal(one, other) for one, other in same)
    others = zip(pictures["mean"], pictures["bundle"], strict=True)
    assert not all(np.array_equal(one, other) for one, other in others)
    error = refusal(translate, bundle, photos / "testA", tmp_path / "x", "style.first=3", *here)
    assert error.option == "style.first"


def test_without_a_style_option_the_mean_style_is_exported(run, photos, tmp_path):
    words = (f"out={tmp_path / 'out'}", "direction=a_to_b", "formats=[safetensors]")
    assert call(export, run, *words) == (0, "")
    for source, out in ((run, "run"), (tmp_path / "out/a_to_b", "bundle")):
        words = (
            ("direction=a_to_b", "runtime.device=cpu") if out == "run" else ("runtime.device=cpu",)
        )
        assert call(translate, source, photos / "testA", tmp_path / out, *words) == (0, "")
    names = sorted(path.name for path in (tmp_path / "run").rglob("*.png"))
    for name in names:
        one, other = (Image.open(next((tmp_path / out).rglob(name))) for out in ("run", "bundle"))
        with one, other:
            assert np.array_equal(np.asarray(one), np.asarray(other))


def test_a_style_for_a_translator_without_styles_is_refused(trained, tmp_path):
    words = (
        f"out={tmp_path / 'out'}",
        "direction=a_to_b",
        "formats=[safetensors]",
        "style.first=3",
    )
    assert refusal(export, trained, *words).option == "style.first"
    assert not (tmp_path / "out").exists()
