"""Bundles hold files that equal the translator, and a failed export leaves no bundle."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import deployment.export
import export
import inference.exported_bundle
import translate
from common.errors import UserError
from deployment.graph_export import AnySizeTranslator
from deployment.parity import (
    GATES,
    Gate,
    noise,
    onnx_runner,
    real_images,
    round_to_8_bits,
    sample_batches,
)
from engine.runtime import RuntimeConfig
from inference.exported_bundle import build_translator, is_bundle, options_of_bundle, read_bundle
from inference.open_run import open_run
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator
from models.translator import DeterministicTranslator
from tests.conftest import call, picture, raises_user_error, refusal

for package in ("safetensors", "onnx", "onnxscript"):
    pytest.importorskip(package)
onnxruntime = pytest.importorskip("onnxruntime")


SAFETENSORS = ("direction=a_to_b", "formats=[safetensors]")


def exported(run, out, *more):
    return call(export, run, f"out={out}", *SAFETENSORS, *more)


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory) -> tuple[Path, str]:
    """A bundle with every format, and everything that was printed."""
    out, screen = tmp_path_factory.mktemp("bundles") / "all", io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        answer = call(
            export,
            trained,
            f"out={out}",
            "direction=a_to_b",
            "formats=safetensors,onnx,fp16,int8,pt2",
        )
    assert answer == (0, "")
    return out / "a_to_b", screen.getvalue()


@pytest.fixture(scope="module")
def bundle(made) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def translator(trained):
    return open_run(trained, RuntimeConfig(device="cpu")).translators["a_to_b"]


@pytest.fixture
def small(bundle, tmp_path) -> Path:
    """A copy of the bundle to break."""
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_the_manifest_has_every_file_with_its_checksum_and_its_provenance(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    files = {path.name for path in bundle.iterdir()} - {"manifest.json"}
    assert files == manifest["files"].keys()
    assert {"model.safetensors", "model.onnx", "model_raw.onnx", "model_fp16.onnx", "model.pt2",
            "README.md", "run_onnx.py"} <= files  # fmt: skip
    for name, entry in manifest["files"].items():
        content = (bundle / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest(), name
        assert entry["bytes"] == len(content), name
    assert ("model_int8.onnx" in files) != ("model_int8.onnx" in manifest["parity"]["rejected"])
    assert (manifest["direction"], manifest["step"], manifest["weights"]) == (
        "a_to_b",
        8,
        "ema",
    )
    assert manifest["method"]["generator"]["channels"] == 4
    assert manifest["provenance"]["packages"]["onnxruntime"] != "not installed"
    assert manifest["parity"]["images"] == "held-out images"
    assert list(bundle.parent.iterdir()) == [bundle]


def test_no_model_file_contains_a_path_of_this_machine(bundle):
    here = str(Path(export.__file__).parent).encode()
    for path in bundle.glob("model*"):
        assert here not in path.read_bytes(), path.name
    metadata = onnxruntime.InferenceSession(bundle / "model.onnx").get_modelmeta()
    assert metadata.custom_metadata_map["direction"] == "a_to_b"
    assert here not in metadata.description.encode()


def test_every_file_is_listed_in_the_parity_table_and_within_its_gate(bundle, record_property):
    manifest = json.loads((bundle / "manifest.json").read_text())
    rows = {row["file"]: row for row in manifest["parity"]["files"]}
    assert rows.keys() == {name for name in manifest["files"] if name.startswith("model")}
    assert rows["model.safetensors"]["difference"] == 0
    largest = max(rows[name]["difference"] for name in ("model_raw.onnx", "model.pt2"))
    record_property("figure", f"{largest:.1e} on [-1, 1]")
    assert largest <= 1e-5
    assert rows["model.onnx"]["difference"] <= 1.001 / 127.5
    assert rows["model.onnx"]["differing"] < 1e-3
    assert rows["model_fp16.onnx"]["difference"] <= 2e-2


def test_the_terminal_shows_a_line_for_each_format_and_a_table_and_nothing_else(made):
    lines = made[1].splitlines()
    formats = ["safetensors", "onnx", "fp16", "int8", "pt2"]
    assert lines[:5] == [f"a_to_b: {name}" for name in formats]
    assert lines[5].split() == ["file", "MB", "max", "difference", "PSNR", "ms"]
    rest = [line for line in lines[6:] if not line.startswith(("model", "left out: model_int8"))]
    assert rest == [f"exported into {made[0]}"]


@pytest.mark.parametrize("size", [(1, 9), (7, 4), (8, 8), (30, 43), (90, 5)])
def test_the_graphs_take_sizes_that_the_export_did_not_try(bundle, translator, size):
    random = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (2, 3, *size), generator=random, dtype=torch.uint8)
    image = pixels.float() / 127.5 - 1
    expected = translator(image)
    raw = onnx_runner(bundle / "model_raw.onnx")(image)
    assert raw.shape == expected.shape and (raw - expected).abs().max() < 1e-3
    levels = (onnx_runner(bundle / "model.onnx")(image) - expected).abs().max() * 127.5
    assert levels < 1.6  # half a level of rounding, and one where it falls the other way


@pytest.mark.parametrize(("norm", "upsampling"), [("instance", "resize"), ("batch", "transposed")])
def test_padding_by_indices_equals_the_translators_padding_for_every_small_size(norm, upsampling):
    config = GeneratorConfig(channels=2, blocks=1, norm=norm, upsampling=upsampling)
    generator = ResnetGenerator(1, 2, config).eval()
    translator = DeterministicTranslator(generator, "a", "b", 1, 2, 4, 8)
    for height in range(1, 14):
        for width in (1, 3, 4, 6, 12, 13):
            image = torch.rand(1, 1, height, width)
            assert torch.equal(AnySizeTranslator(translator)(image), translator(image)), (
                height,
                width,
            )


def test_a_bundle_read_back_is_the_same_translator(bundle, translator, trained):
    read = read_bundle(bundle)
    again = build_translator(read)
    image = torch.rand(1, 3, 21, 18) * 2 - 1
    assert torch.equal(again(image), translator(image))
    assert (read.direction, read.source, read.target, read.step) == ("a_to_b", "a", "b", 8)
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    assert read.options == open_run(trained).options == options_of_bundle(bundle)
    assert is_bundle(bundle) and not is_bundle(trained) and not is_bundle(trained / "checkpoints")


def test_a_damaged_missing_or_newer_bundle_is_refused_in_one_line(small):
    def assert_refused(name: str, content: bytes | None, part: str = "") -> None:
        before = (small / name).read_bytes()
        if content is None:
            (small / name).unlink()
        else:
            (small / name).write_bytes(content)
        assert is_bundle(small)
        with pytest.raises(UserError) as caught:
            build_translator(read_bundle(small))
        (small / name).write_bytes(before)
        assert caught.value.path == str(small / name)
        assert part in str(caught.value) and "\n" not in str(caught.value)

    weights = bytearray((small / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    assert_refused("model.safetensors", bytes(weights), "checksum")
    assert_refused("model.safetensors", None)
    for content in (None, b'{"kind": ', b"[1]"):
        assert_refused("manifest.json", content)
    manifest = json.loads((small / "manifest.json").read_text())
    for change, part in (
        ({"format": 3}, "format 3"),
        ({"step": None}, "step"),
        ({"weights": "best"}, ""),
    ):
        assert_refused("manifest.json", json.dumps({**manifest, **change}).encode(), part)
    for change, option in (
        ({"files": {}}, "formats"),
        ({"options": "method: {name: none}"}, "method.name"),
    ):
        (small / "manifest.json").write_text(json.dumps({**manifest, **change}))
        with raises_user_error(option=option):
            read_bundle(small)
    wider = manifest["options"].replace("channels: 4", "channels: 6")
    (small / "manifest.json").write_text(json.dumps({**manifest, "options": wider}))
    with raises_user_error(path=small):
        build_translator(read_bundle(small))


def perturbed(path, sha256):
    state = inference.exported_bundle.read_weights(path, sha256)
    return {name: value + 1e-2 for name, value in state.items()}


def test_a_file_that_differs_from_the_translator_fails_the_export_and_keeps_the_old_bundle(
    trained, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    monkeypatch.setattr(deployment.export, "read_weights", perturbed)
    code, error = exported(trained, out)
    assert code == 1 and "a_to_b: model.safetensors does not equal the translator" in error
    assert not out.exists()
    monkeypatch.undo()
    assert exported(trained, out) == (0, "")
    before = snapshot(tmp_path)
    monkeypatch.setattr(deployment.export, "read_weights", perturbed)
    assert exported(trained, out)[0] == 1
    assert snapshot(tmp_path) == before and [path.name for path in out.iterdir()] == ["a_to_b"]


def test_an_earlier_bundle_is_replaced_whole_and_survives_a_kill_between_two_names(
    trained, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    assert exported(trained, out) == (0, "")
    (out / "a_to_b/model.pt2").write_text("of an earlier export")
    before = snapshot(out)
    (out / "a_to_b").rename(out / ".a_to_b.old")
    (out / ".a_to_b.partial").mkdir()
    monkeypatch.setattr(deployment.export, "read_weights", perturbed)
    assert exported(trained, out)[0] == 1
    assert snapshot(out) == before and [path.name for path in out.iterdir()] == ["a_to_b"]
    monkeypatch.undo()
    assert exported(trained, out, "license=mit") == (0, "")
    assert [path.name for path in out.iterdir()] == ["a_to_b"]
    files = {path.name for path in (out / "a_to_b").iterdir()}
    assert files == {"README.md", "manifest.json", "model.safetensors"}
    assert "license: mit" in (out / "a_to_b/README.md").read_text()


def test_an_8_bit_file_that_loses_too_much_is_left_out_with_a_line(
    trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(GATES, "model_int8.onnx", Gate(min_psnr=200))
    out = tmp_path / "out"
    assert exported(trained, out, "formats=[safetensors,int8]") == (0, "")
    assert "left out: model_int8.onnx, its PSNR is " in capsys.readouterr().out
    manifest = json.loads((out / "a_to_b/manifest.json").read_text())
    assert "at least 200" in manifest["parity"]["rejected"]["model_int8.onnx"]
    files = {path.name for path in (out / "a_to_b").iterdir()}
    assert files == {"README.md", "manifest.json", "model.safetensors"}


def test_the_runner_without_torch_writes_the_same_pictures_as_translate(bundle, trained, tmp_path):
    source, random = tmp_path / "in", np.random.default_rng(0)
    (source / "deep").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = random.integers(0, 256, (31, 45, 4), dtype=np.uint8)
    Image.fromarray(pixels[..., :3]).save(source / "deep/odd.png")
    Image.fromarray(pixels[..., :3]).save(source / "rotated.png", exif=exif)
    Image.fromarray(pixels).save(source / "alpha.png")
    Image.fromarray(pixels[:5, :7, 0]).save(source / "grey.webp", lossless=True)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(source / "deep.png")
    keyed = Image.fromarray(pixels[..., :3]).quantize(16)
    keyed.save(source / "keyed.gif", transparency=3)
    assert call(translate, trained, source, tmp_path / "ours", "direction=a_to_b",
                "runtime.device=cpu") == (0, "")  # fmt: skip
    done = runner(tmp_path, bundle, source, tmp_path / "theirs")
    assert (done.returncode, done.stderr) == (0, "")
    ours = sorted(p.relative_to(tmp_path / "ours") for p in (tmp_path / "ours").rglob("*.*"))
    assert len(ours) == 6
    for name in ours:
        one, other = picture(tmp_path / "ours" / name), picture(tmp_path / "theirs" / name)
        assert (one.size, one.mode, one.format) == (other.size, other.mode, other.format), name
        difference = np.abs(np.array(one).astype(int) - np.array(other))
        assert difference.max() <= 1, name


def runner(tmp_path, bundle, *words) -> subprocess.CompletedProcess:
    """Run a bundle's runner where importing torch is an error."""
    (tmp_path / "stub").mkdir(exist_ok=True)
    (tmp_path / "stub/torch.py").write_text("raise RuntimeError('torch was imported')")
    return subprocess.run(
        [sys.executable, "-W", "error", str(bundle / "run_onnx.py"), *map(str, words)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "stub"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_the_runner_reports_mistakes_in_one_line_and_skips_unreadable_pictures(bundle, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "in/good.png")
    (tmp_path / "in/bad.png").write_bytes(b"x")
    done = runner(tmp_path, bundle, tmp_path / "in", tmp_path / "out", "model_raw.onnx")
    assert done.returncode == 1 and [p.name for p in (tmp_path / "out").iterdir()] == ["good.png"]
    assert "bad.png: not an image" in done.stderr and "error: 1 of 2 images" in done.stderr
    for words, part in [
        ((tmp_path / "none", "o"), "no such file or folder"),
        ((tmp_path / "in", tmp_path / "in"), "overwritten"),
        ((tmp_path / "in", "o", "x.onnx"), "no such model"),
        ((tmp_path / "in/bad.png", "o"), "not an image"),
        ((tmp_path / "in", "o", tmp_path / "in/bad.png"), "not a model"),
    ]:
        done = runner(tmp_path, bundle, *words)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("error: ") and part in done.stderr


@pytest.mark.parametrize(
    ("package", "words"),
    [("safetensors", "safetensors"), ("onnxscript", "fp16"), ("onnxruntime", "onnx")],
)
def test_a_missing_package_is_reported_with_the_install_command(
    trained, tmp_path, monkeypatch, package, words
):
    monkeypatch.setitem(sys.modules, package, None)
    code, error = exported(trained, tmp_path / "out", f"formats=[{words}]")
    assert (code, error) == (2, f"{package} missing: pip install -r requirements-optional.txt")
    assert not (tmp_path / "out").exists()


def test_mistakes_name_the_option_or_the_path(trained, tmp_path):
    other = tmp_path / "other/a_to_b"
    other.mkdir(parents=True)
    (other / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for words, option, path in [
        ((tmp_path / "none",), "", tmp_path / "none"), ((tmp_path,), "", tmp_path),
        ((trained, "direction=a_to_c"), "direction", ""),
        ((trained, "formats=[tflite]"), "formats", ""), ((trained, "formats=[]"), "formats", ""),
        ((trained, "format=onnx"), "format", ""),
        ((trained, "formats=pt2", f"out={tmp_path / 'other'}"), "out", other),
        ((trained, "formats=pt2", f"out={tmp_path / 'file'}"), "out", tmp_path / "file"),
    ]:  # fmt: skip
        error = refusal(export, *words)
        assert error.option == option and "\n" not in str(error), error
        assert not path or error.path == str(path), error
    assert (other / "thesis.txt").exists()


def test_one_run_must_be_named(trained):
    for words in ((), (trained, trained)):
        assert "python export.py" in str(refusal(export, *words))


def test_a_file_of_the_users_own_in_a_bundles_folder_is_never_removed(trained, tmp_path):
    assert exported(trained, tmp_path) == (0, "")
    own = tmp_path / "a_to_b/notes.txt"
    own.write_text("x")
    error = refusal(export, trained, f"out={tmp_path}", *SAFETENSORS)
    assert (error.option, error.path) == ("out", str(own.parent)) and "notes.txt" in str(error)
    assert own.exists()


def test_a_checkpoint_of_the_cyclegan_repository_needs_a_folder_to_be_exported_into(tmp_path):
    config = GeneratorConfig(channels=4, blocks=1)
    generator = ResnetGenerator(1, 3, config).eval()  # so b has one channel, and a has three
    state = {
        f"model.{number // 2}.{('weight', 'bias')[number % 2]}": value
        for number, value in enumerate(generator.parameters())
    }
    file = tmp_path / "theirs/latest_net_G_B.pth"
    file.parent.mkdir()
    torch.save(state, file)
    error = refusal(export, file, "formats=[safetensors]")
    assert (error.option, error.path) == ("out", str(file)) and "\n" not in str(error)
    assert list(tmp_path.rglob("*")) == [file.parent, file]
    out = tmp_path / "out"
    assert call(export, file, f"out={out}", "formats=[safetensors,onnx]") == (0, "")
    read = read_bundle(out / "b_to_a")
    image = torch.rand(1, 1, 24, 16) * 2 - 1
    with torch.no_grad():
        assert torch.equal(build_translator(read)(image), generator(image))
    assert list(read.options.data.channels_of().items()) == [("a", 3), ("b", 1)]
    assert "Not known" in (out / "b_to_a/README.md").read_text()


def test_the_card_and_the_manifest_carry_what_test_py_measured(trained, tmp_path, capsys):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "test").mkdir(exist_ok=True)
    measured = {"directions": {"a_to_b": {"cycle_psnr": 21.25, "images": 3}},
                "protocol": {"step": 8, "size": 16}}  # fmt: skip
    (run / "test/metrics.json").write_text(json.dumps(measured))
    assert call(export, run, "direction=a_to_b", "formats=[safetensors]") == (0, "")
    manifest = json.loads((run / "export/a_to_b/manifest.json").read_text())
    assert manifest["metrics"]["figures"]["cycle_psnr"] == 21.25
    text = (run / "export/a_to_b/README.md").read_text()
    assert "| cycle_psnr | 21.25 |" in text and "size 16" in text
    assert text.startswith("---\nlicense: unknown\n") and "$" not in text
    assert "metrics:\n- psnr\n---\n" in text
    (run / "test/metrics.json").write_text("{")
    assert call(export, run, "formats=[safetensors]") == (0, "")  # both directions
    assert "metrics.json is damaged" in capsys.readouterr().out
    assert "had not been run" in (run / "export/b_to_a/README.md").read_text()


def test_without_its_images_a_run_is_compared_on_noise(trained):
    run = open_run(trained, RuntimeConfig(device="cpu"))
    data = dataclasses.replace(run.options.data, root="/nowhere")
    away = dataclasses.replace(run, options=dataclasses.replace(run.options, data=data))
    assert real_images(away, "a", "test", 6) == []
    assert len(real_images(run, "a", "test", 6)) == 3
    batches = sample_batches(noise(2, 6))
    shapes = {tuple(batch.shape) for batch in batches}
    assert {(1, 2, 61, 75), (3, 2, 65, 81), (3, 2, 256, 256)} <= shapes and len(shapes) == 10
    assert all(torch.equal(batch, round_to_8_bits(batch)) for batch in batches)
    assert min(float(batch.std()) for batch in batches) > 0.1
