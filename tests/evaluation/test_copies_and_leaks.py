"""Planted copies and leaks are found; different pictures that look alike are not."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.scenes import draw_scene, to_uint8
from data.tensors import normalize
from evaluation.copies_and_leaks import find_leaks, nearest_training_images
from evaluation.image_sets import CopyIndex


def scene(number: int, domain: int = 0) -> torch.Tensor:
    pixels = to_uint8(draw_scene(64, domain, number).pixels)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]


def saved_again(image: torch.Tensor) -> torch.Tensor:
    """Return a picture that was saved as JPEG 80 a tenth smaller and resized back."""
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    encoded = io.BytesIO()
    picture.resize((58, 58), Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=80)
    with Image.open(io.BytesIO(encoded.getvalue())) as again:
        pixels = np.array(again.resize((64, 64), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def folder(label: str, images: list[torch.Tensor], first: int = 0):
    described = CopyIndex(label)
    for number, image in enumerate(images):
        described.add(Path(f"{label}/{first + number}.png"), normalize(image))
    return described


def test_scenes_with_one_horizon_are_not_one_picture():
    one = folder("train", [scene(n) for n in range(100)])
    other = folder("test", [scene(n) for n in range(100, 150)])
    assert find_leaks([one, other]) == []
    assert not any(is_copy for _, _, is_copy in nearest_training_images(other, one))


@pytest.mark.parametrize("number", [3, 17, 42])
def test_a_planted_duplicate_is_found_with_its_folders(number):
    train = folder("train/a", [scene(n) for n in range(60)])
    test = folder("test/a", [scene(100), saved_again(scene(number)), scene(101)])
    (leak,) = find_leaks([train, test])
    assert (leak["first"], leak["second"]) == (f"train/a/{number}.png", "test/a/1.png")
    assert leak["between"] == "train/a and test/a"


def test_a_fake_that_is_a_training_image_is_named():
    train = folder("train", [scene(n) for n in range(60)])
    fakes = folder("fakes", [scene(200), saved_again(scene(31))])
    (_, _, first), (distance, file, second) = nearest_training_images(fakes, train)
    assert (first, second, file) == (False, True, Path("train/31.png")) and distance < 0.03
