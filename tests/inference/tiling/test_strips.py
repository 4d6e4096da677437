"""A translation in strips equals that of the whole picture."""

import resource
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch

import translate
from common.errors import RunError
from data.tensors import denormalize, normalize, to_tensor
from engine.runtime import Runtime, RuntimeConfig
from inference.picture_translator import PictureTranslator
from inference.tiling import strips
from inference.tiling.strips import strips_for, translate_in_strips
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator
from models.translator import DeterministicTranslator
from tests.conftest import ROOT, call, picture, refusal, write_images

CPU = torch.device("cpu")


def generator(**changes) -> ResnetGenerator:
    torch.manual_seed(0)
    network = ResnetGenerator(3, 3, GeneratorConfig(**{"channels": 8, "blocks": 2, **changes}))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)  # outputs that use the whole range
    return network.eval().requires_grad_(False)


def translator(**changes) -> DeterministicTranslator:
    return DeterministicTranslator(generator(**changes), "a", "b", 3, 3, 4, 16)


def noise(height: int, width: int) -> np.ndarray:
    """Return a picture whose rows differ: strips translated one by one would look different."""
    rows = np.linspace(0, 200, height)[:, None, None]
    pixels = np.random.default_rng(0).integers(0, 56, (height, width, 3))
    return (pixels + rows).astype(np.uint8)


def whole(network: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    image = normalize(to_tensor(pixels))[None]
    return denormalize(network(image))[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"upsampling": "resize"},
        {"norm": "batch"},
        {"dropout": 0.5},
        {"blocks": 0},
        {"antialiased": True},
    ],
)
@pytest.mark.parametrize(("height", "width"), [(64, 48), (36, 20), (160, 128), (33, 50)])
@pytest.mark.parametrize("tile", [16, 48])
def test_strips_equal_the_whole_picture(changes, height, width, tile):
    network, pixels = translator(**changes), noise(height, width)
    reported: list[float] = []
    strips = translate_in_strips(network, pixels, tile**2 * 8, CPU, reported.append)
    expected = whole(network, pixels)
    assert expected.std() > 3
    assert abs(strips.astype(int) - expected).max() <= 1  # a difference in rounding
    assert reported == sorted(reported) and reported[0] > 0 and reported[-1] <= 1


def test_strips_translated_one_by_one_would_differ():
    network, pixels = generator(), noise(64, 48)
    tiles = np.concatenate(
        [whole(network, pixels[first : first + 16]) for first in range(0, 64, 16)]
    )
    assert abs(tiles.astype(int) - whole(network, pixels)).max() > 30


@pytest.mark.parametrize(("height", "width"), [(33, 47), (5, 90), (9, 9)])
def test_a_translator_pads_and_crops_strips_like_whole_pictures(height, width):
    translator = DeterministicTranslator(generator(), "a", "b", 3, 3, 4, 8)
    runtime = Runtime(RuntimeConfig(device="cpu"))
    pixels = noise(height, width)
    full = PictureTranslator(translator, runtime, tile="off")(pixels)
    strips = PictureTranslator(translator, runtime, tile="16")(pixels)
    assert strips.shape == full.shape and abs(strips.astype(int) - full).max() <= 1


def test_auto_chooses_strips_by_the_memory_that_is_free(monkeypatch):
    translator = DeterministicTranslator(generator(), "a", "b", 3, 3, 4, 8)
    pixels = noise(64, 64)
    assert strips_for(translator, "auto", pixels, CPU) == 0
    monkeypatch.setattr(strips, "free_memory", lambda _: 200_000)
    assert strips_for(translator, "auto", pixels, CPU) > 0
    assert strips_for(translator, "off", pixels, CPU) == 0
    assert strips_for(translator, "32", pixels, CPU) == 32 * 32 * 8


def test_free_memory_knows_the_limit_of_the_process():
    limit = 8 * 2**30
    code = (
        "import resource, torch; from engine.hardware.memory import free_memory;"
        f"resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}));"
        "print(free_memory(torch.device('cpu')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 0 < int(done.stdout) < limit
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_a_full_disk_is_a_run_error_that_names_the_folder(monkeypatch):
    def full(self, first, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(strips.StoredMap, "write", full)
    with pytest.raises(RunError, match="TMPDIR") as caught:
        translate_in_strips(translator(), noise(16, 16), 10_000, CPU, lambda _: None)
    assert tempfile.gettempdir() in str(caught.value)


def test_the_command_gives_the_same_picture_with_any_tile(trained, tmp_path):
    write_images(tmp_path / "in", 1, size=(70, 45))
    pictures = []
    for tile in ("off", "16", "40", "auto"):
        out = tmp_path / f"{tile}.png"
        words = (trained, tmp_path / "in/000.png", out, "direction=a_to_b", f"tile={tile}")
        assert call(translate, *words, "runtime.device=cpu") == (0, "")
        pictures.append(np.array(picture(out)).astype(int))
    assert all(abs(x - pictures[0]).max() <= 1 for x in pictures[1:])


@pytest.mark.parametrize("tile", ["tiny", "8", "-1", "1.5"])
def test_a_wrong_tile_is_refused(trained, tmp_path, tile):
    words = (trained, tmp_path, tmp_path / "out", "direction=a_to_b", f"tile={tile}")
    assert call(translate, *words)[0] == 2
    assert refusal(translate, *words).option == "tile"
