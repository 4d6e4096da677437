"""Smoothed statistics reduce changes of static regions between frames; flicker is measured."""

import numpy as np
import pytest
import torch
from PIL import Image

import translate
from inference.temporal_smoothing import Flicker, smooth_statistics
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator
from tests.conftest import call, picture


def frames(count: int = 8) -> list[np.ndarray]:
    """Return a still background over which a bright block moves: each frame's statistics differ."""
    random = np.random.default_rng(0)
    background = random.integers(40, 90, (32, 32, 3), dtype=np.uint8)
    result = []
    for number in range(count):
        frame = background.copy()
        side = 6 + 10 * (number % 2)
        frame[4 : 4 + side, 4 : 4 + side] = 250
        result.append(frame)
    return result


def outputs(network: ResnetGenerator, smooth: bool) -> list[torch.Tensor]:
    images = [torch.from_numpy(f).permute(2, 0, 1)[None] / 127.5 - 1 for f in frames()]
    with torch.no_grad():
        if not smooth:
            return [network(image) for image in images]
        with smooth_statistics(network):
            return [network(image) for image in images]


def test_the_background_changes_less_from_frame_to_frame():
    torch.manual_seed(0)
    network = ResnetGenerator(3, 3, GeneratorConfig(channels=8, blocks=1)).eval()
    plain, smoothed = outputs(network, False), outputs(network, True)

    def mean_change(images: list[torch.Tensor]) -> float:
        static = [image[..., 24:, 24:] for image in images]  # far from the block
        pairs = zip(static[3:], static[4:], strict=False)
        return float(torch.stack([(x - y).abs().mean() for x, y in pairs]).mean())

    assert mean_change(smoothed) < 0.5 * mean_change(plain)
    assert torch.allclose(plain[0], smoothed[0], atol=1e-5)  # the first frame has no past
    again = outputs(network, False)  # the context leaves the network unchanged
    assert all(torch.equal(x, y) for x, y in zip(plain, again, strict=True))


def test_flicker_is_the_mean_change_of_output_and_input():
    flicker = Flicker()
    assert flicker.result() is None
    for real, fake in ((0, 10), (2, 20), (4, 24)):
        flicker.update(np.full((2, 2, 3), real, np.uint8), np.full((2, 2, 3), fake, np.uint8))
    assert flicker.result() == {"input": 2.0, "output": 7.0, "ratio": 3.5}
    flicker.update(np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3, 3), np.uint8))  # another scene
    assert flicker.result() == {"input": 2.0, "output": 7.0, "ratio": 3.5}


@pytest.mark.parametrize("video", [True, False])
def test_the_command_reports_flicker_for_videos(trained, tmp_path, capsys, video):
    (tmp_path / "in").mkdir()
    for number, frame in enumerate(frames(3)):
        Image.fromarray(frame).save(tmp_path / f"in/{number:03d}.png")
    words = (trained, tmp_path / "in", tmp_path / "out", "direction=a_to_b", f"video={video}")
    assert call(translate, *words, "runtime.device=cpu") == (0, "")
    assert ("flicker: " in capsys.readouterr().out) == video
    assert picture(tmp_path / "out/002.png").size == (32, 32)
