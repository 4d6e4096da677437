"""Copies are detected despite resizing and compression, and other images are not."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.set_distances import memorization
from metrics.set_distances.memorization import (
    MAX_COPY_DISTANCE,
    copy_distance,
    image_descriptor,
    mifid,
    near_duplicates,
    nearest,
)

BANK = torch.tensor([[2.0, 0.0], [0.0, 5.0]])


def field(seed: int, power: float = 1.0, size: int = 96) -> torch.Tensor:
    """Return a smooth random image [1, 3, size, size] with amplitudes of 1 / frequency^power."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.fft.fft2(torch.randn(3, size, size, generator=generator))
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.fftfreq(size))
    frequency[0, 0] = torch.inf
    smooth = torch.fft.ifft2(noise / frequency**power).real
    colors = smooth + 2 * smooth.mean(dim=0)  # channels are correlated, as in photographs
    return (colors / (2 * colors.std())).clamp(-1, 1)[None]


def resaved(image: torch.Tensor, scale: float, quality: int = 80) -> torch.Tensor:
    """Return an image after resizing and JPEG compression."""
    pixels = ((image[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    picture = Image.fromarray(pixels)
    side = round(picture.width * scale)
    file = io.BytesIO()
    picture.resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=quality)
    with Image.open(file) as copy:
        return torch.from_numpy(np.array(copy)).permute(2, 0, 1)[None] / 127.5 - 1


def test_copy_distance_by_hand():
    # A copy of another length, one at 45 degrees, and an opposite one, which counts as a copy.
    fake = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, -1.0]])
    assert copy_distance(fake, BANK) == pytest.approx((1 - 0.5**0.5) / 3, rel=1e-12)


def test_mifid_penalizes_only_below_its_threshold():
    fake = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    copied = (1 - 0.5**0.5) / 2  # 0.146
    assert mifid(30.0, fake, BANK) == pytest.approx(30.0)
    assert mifid(30.0, fake, BANK, threshold=0.2) == pytest.approx(30 / copied)
    assert mifid(30.0, BANK, BANK) == pytest.approx(30e15)


def test_nearest_by_hand():
    features = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, 0.0]])
    distances, indices = nearest(features, BANK, 2)
    r = 0.5**0.5
    assert torch.allclose(distances[:2], torch.tensor([[0, 1], [1 - r, 1 + r]]).double())
    assert distances[2].tolist() == [1, 1]
    assert indices[:2].tolist() == [[0, 1], [1, 0]]
    assert nearest(features, BANK, 9)[0].shape == (3, 2)


def test_near_duplicates_by_hand():
    features = torch.tensor([[1.0, 0.1], [1.0, 1.0], [0.0, 1.0]])
    pairs, distances = near_duplicates(features, BANK, 0.1)
    assert pairs.tolist() == [[2, 1], [0, 0]]
    assert distances.tolist() == pytest.approx([0, 1 - 1 / 1.01**0.5])
    pairs, distances = near_duplicates(features[1:2], BANK, 0.1)
    assert pairs.shape == (0, 2) and distances.shape == (0,)


def test_blocks_do_not_change_the_result(monkeypatch):
    features, bank = torch.randn(23, 6), torch.randn(17, 6)
    whole = (
        *nearest(features, bank, 3),
        *near_duplicates(features, bank, 0.5),
        torch.tensor(copy_distance(features, bank)),
    )
    assert len(whole[2]) > 5
    monkeypatch.setattr(memorization, "MAX_BLOCK", 40)  # two rows at a time
    parts = (
        *nearest(features, bank, 3),
        *near_duplicates(features, bank, 0.5),
        torch.tensor(copy_distance(features, bank)),
    )
    assert all(torch.allclose(x, y) for x, y in zip(whole, parts, strict=True))


@pytest.fixture(scope="module")
def pictures() -> list[torch.Tensor]:
    """Two hundred images, from rough to very smooth."""
    return [field(i, (0.8, 1.0, 1.5, 2.0)[i % 4]) for i in range(200)]


@pytest.fixture(scope="module")
def bank(pictures) -> torch.Tensor:
    return torch.cat([image_descriptor(x) for x in pictures])


def test_different_images_are_not_duplicates(bank):
    pairs, _ = near_duplicates(bank, bank)
    assert sorted(pairs.tolist()) == [[i, i] for i in range(200)]  # each only of itself
    distances, _ = nearest(bank, bank, 2)
    assert distances[:, 1].min() > 5 * MAX_COPY_DISTANCE


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.1])
def test_a_resaved_copy_is_detected(pictures, bank, scale):
    for planted in (8, 9, 10, 11):  # one of each smoothness
        copy = image_descriptor(resaved(pictures[planted], scale))
        pairs, distances = near_duplicates(copy, bank)
        assert pairs.tolist() == [[0, planted]]
        assert distances.item() < MAX_COPY_DISTANCE / 2
        assert nearest(copy, bank)[1].item() == planted


def test_a_descriptor_ignores_brightness_contrast_and_integer_scales_but_not_flips():
    image = field(3) * 0.5
    one = image_descriptor(image)
    assert one.shape == (1, 512) and one.dtype == torch.float64
    assert one.norm().item() == pytest.approx(1)
    assert torch.allclose(image_descriptor(image * 0.7 + 0.2), one, atol=1e-6)
    larger = image.repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)
    assert torch.allclose(image_descriptor(larger), one, atol=1e-6)
    assert (image_descriptor(image.flip(3)) @ one.T).item() < 0.9
    assert torch.allclose(image_descriptor(image + TINT), one, atol=1e-6)


TINT = torch.tensor([0.0, 0.0, 0.2])[:, None, None]


def test_a_descriptor_contains_colors_and_both_directions():
    image = field(3) * 0.5
    # More red and less green, so that the luminance stays the same.
    patch = torch.zeros(96, 96)
    patch[:48] = 0.2
    red = image + patch * torch.tensor([0.587, -0.299, 0.0])[:, None, None]
    assert (image_descriptor(red) @ image_descriptor(image).T).item() < 0.998
    ramp = torch.linspace(-1, 1, 96).expand(1, 1, 96, 96)
    across, down = image_descriptor(ramp), image_descriptor(ramp.mT)
    assert across.norm().item() == pytest.approx(1) and down.norm().item() == pytest.approx(1)
    assert abs(across @ down.T).item() < 1e-9


def test_a_flat_image_is_near_no_other_and_small_or_gray_images_have_descriptors():
    flat = image_descriptor(torch.full((2, 3, 41, 37), 0.3))
    assert flat.abs().max() == 0
    assert len(near_duplicates(flat, flat)[0]) == 0
    assert image_descriptor(torch.rand(2, 1, 9, 13)).norm(dim=1).tolist() == pytest.approx([1, 1])
