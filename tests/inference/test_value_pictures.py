"""Values of scientific images through training, evaluation, translation and the exported bundle."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import tifffile
from torch import nn

import export
import test
import train
import translate
from data.values.raw_values import file_format, read_values
from data.values.value_range import DomainFormat
from engine.runtime import Runtime, RuntimeConfig
from inference.inputs import read_picture
from inference.outputs import like_input, output_name, write_picture
from inference.picture_translator import PictureTranslator
from models.translator import DeterministicTranslator
from tests.conftest import PYTHON, TINY, call
from tests.data.values.test_value_range import smooth, write

# Case -> (suffix, bands, values from [0, 1]).
KINDS = {
    "CT": (".png", 1, lambda x: (4095 * x).astype(np.uint16)),
    "float": (".tif", 1, lambda x: (4000 * x - 1000).astype(np.float32)),
    "int16": (".npy", 1, lambda x: (4000 * x - 1000).astype(np.int16)),
    "6 bands": (".npy", 6, lambda x: (4000 * x - 1000).astype(np.int16)),
    "8 bands": (".tif", 8, lambda x: (10000 * x).astype(np.uint16)),
}


def layout_of(path):
    """Return what must be equal between a file and its translation."""
    if path.suffix == ".npy":
        array = np.load(path)
        return array.dtype, array.shape
    form = file_format(path)
    return form.dtype, form.bands, read_values(path, form.bands)[0].shape


@pytest.mark.parametrize("kind", KINDS)
def test_an_identity_returns_the_values_of_a_file_within_a_step(tmp_path, kind):
    suffix, bands, make = KINDS[kind]
    values = make(smooth(bands=bands))
    file = tmp_path / f"a{suffix}"
    write(file, values)
    low, high = float(values.min()), float(values.max())
    form = DomainFormat(bands, 0, low, high, str(values.dtype))
    identity = DeterministicTranslator(nn.Identity(), "a", "b", bands, bands, 1, 1)
    translator = PictureTranslator(
        identity, Runtime(RuntimeConfig(device="cpu")), formats={"a": form, "b": form}
    )
    picture = read_picture(file, form)
    assert isinstance(picture, np.ndarray)
    out = tmp_path / "out" / output_name(file.relative_to(tmp_path), form)
    result = translator(picture)
    assert isinstance(result, np.ndarray)
    write_picture(out, like_input(result, file, bands))
    assert out.name == file.name and layout_of(out) == layout_of(file)
    difference = np.abs(read_values(out, bands)[0].astype(float) - values.astype(float)).max()
    assert difference <= (1 if values.dtype.kind in "iu" else (high - low) / 65535)


def test_a_name_that_cannot_hold_the_values_gets_the_suffix_of_a_tiff(tmp_path):
    form = DomainFormat(1, 0, -1000.0, 3000.0, "float32")
    assert output_name(tmp_path / "a.png", form).name == "a.png.tif"
    assert output_name(tmp_path / "a.npy", form).name == "a.npy"
    assert (
        output_name(tmp_path / "a.png", DomainFormat(1, 0, 0.0, 4095.0, "uint16")).name == "a.png"
    )


def test_floats_with_holes_go_through_every_command_in_their_units(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, folder in enumerate(("trainA", "trainB", "testA", "testB")):
        for count in range(2):
            values = (4000 * smooth(24, 20) - 1000).astype(np.float32)
            values[number, count] = np.nan
            write(tmp_path / "DATA" / folder / f"{count}.tif", values)
    words = ["cyclegan", "data.root=DATA", "data.channels=1", "data.pairs=forward", "duration=2 steps",
             "run=RUN", *[word for word in TINY if "wandb" not in word], "log.wandb=disabled"]  # fmt: skip
    assert call(train, *words) == (0, "")
    recorded = json.loads((tmp_path / "RUN/data.json").read_text())["formats"]
    assert recorded["a"]["dtype"] == "float32" and recorded["a"]["low"] < -900
    assert call(train, *words) == (0, "")  # the same command: the range is that of the run
    assert call(test, "RUN", "wandb=disabled", "runtime.device=cpu") == (0, "")
    metrics = json.loads((tmp_path / "RUN/test/metrics.json").read_text())
    metrics = metrics["directions"]["a_to_b"]
    span = recorded["b"]["high"] - recorded["b"]["low"]
    assert metrics["truth_mae"] == pytest.approx(metrics["truth_l1"] * span / 2, rel=1e-5)
    assert call(translate, "RUN", "DATA/testA", "out", "direction=a_to_b") == (0, "")
    assert call(export, "RUN", "formats=[safetensors,onnx]", "direction=a_to_b") == (0, "")
    bundle = tmp_path / "RUN/export/a_to_b"
    assert call(translate, str(bundle), "DATA/testA", "out_of_bundle") == (0, "")
    shutil.copytree(bundle, tmp_path / "elsewhere")
    subprocess.run(
        [PYTHON, "elsewhere/run_onnx.py", "DATA/testA", "out_of_graph"], check=True,
        capture_output=True,
    )  # fmt: skip
    for count in range(2):
        source = tifffile.imread(tmp_path / f"DATA/testA/{count}.tif")
        outputs = [tifffile.imread(tmp_path / out / f"{count}.tif")
                   for out in ("out", "out_of_bundle", "out_of_graph")]  # fmt: skip
        for output in outputs:
            assert output.dtype == source.dtype and output.shape == source.shape
            assert (np.isnan(output) == np.isnan(source)).all()
            assert (
                recorded["b"]["low"]
                <= np.nanmin(output)
                <= np.nanmax(output)
                <= recorded["b"]["high"]
            )
        assert np.nanmax(abs(outputs[0] - outputs[1])) == 0
        assert np.nanmax(abs(outputs[0] - outputs[2])) < 1e-4 * span


def test_a_picture_of_8_bits_is_refused_by_a_run_of_values():
    from PIL import Image

    from common.errors import UserError

    form = DomainFormat(1, 0, 0.0, 4095.0, "uint16")
    identity = DeterministicTranslator(nn.Identity(), "a", "b", 1, 1, 1, 1)
    translator = PictureTranslator(
        identity, Runtime(RuntimeConfig(device="cpu")), formats={"a": form, "b": form}
    )
    with pytest.raises(UserError, match="uint16 values"):
        translator(Image.new("L", (8, 8)))
