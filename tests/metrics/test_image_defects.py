"""Defects that are added on purpose are detected, and clean images are not."""

import math

import pytest
import torch
import torch.nn.functional as F

from metrics.image_defects import checkerboard, color_inversion, dead_tiles


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.2


def natural(count: int, size: int = 128, power: float = 1.0) -> torch.Tensor:
    """Return random images [count, 1, size, size] with the amplitude spectrum of photographs."""
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.fftfreq(size))
    frequency[0, 0] = torch.inf
    smooth = torch.fft.ifft2(torch.fft.fft2(noise(count, 1, size, size)) / frequency**power).real
    return smooth / smooth.std() * 0.3


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5, 2.0])
def test_noise_and_natural_spectra_score_about_1(power):
    scores = checkerboard(natural(8, power=power))
    assert scores.mean().item() == pytest.approx(1, abs=0.2)
    assert scores.min() > 0.6 and scores.max() < 1.5


def test_flat_images_gradients_and_lines_score_about_1():
    assert checkerboard(torch.full((1, 3, 40, 50), 0.4)).item() == pytest.approx(1, abs=1e-9)
    ramp = torch.linspace(-1, 1, 96).expand(1, 1, 96, 96)
    edge = torch.where(torch.arange(96) < 41, -0.7, 0.6).expand(1, 1, 96, 96)
    for image in (ramp, edge, edge.mT, edge + ramp.mT):
        assert 0.8 < checkerboard(image).item() < 1.2


@pytest.mark.parametrize("period", [2, 4])
def test_a_grid_has_its_closed_form_score(period):
    # A wave of amplitude a over noise of variance v adds A^2 (sum w)^2 / sum w^2 = A^2 (256 / 12)^2
    # to the power at one of 15 frequencies (A = a; for period 4 at two, A = a / 2). Without it each
    # is about 1.
    a, variance = 0.05, 0.2**2
    wave = a * torch.cos(torch.arange(256) * 2 * math.pi / period).expand(1, 1, 256, 256)
    peaks = a**2 if period == 2 else 2 * (a / 2) ** 2
    added = peaks * (256 / 12) ** 2 / variance / 15
    image = noise(1, 1, 256, 256)
    gain = checkerboard(image + wave).item() - checkerboard(image).item()
    assert gain == pytest.approx(added, rel=0.15)
    assert checkerboard((image + wave).mT).item() == pytest.approx(
        checkerboard(image).item() + gain, abs=0.5
    )


@pytest.mark.parametrize("layers", [1, 2])
def test_transposed_convolutions_are_detected_and_resizing_ones_are_not(layers):
    image = natural(4, 128 >> layers, 1.5)
    blurred = image
    # Odena et al.: a kernel of 3 with stride 2 overlaps unevenly, even with equal weights.
    kernel = torch.full((1, 1, 3, 3), 0.25)
    for _ in range(layers):
        image = F.conv_transpose2d(image, kernel, stride=2, padding=1, output_padding=1)
        blurred = F.interpolate(blurred, scale_factor=2, mode="bilinear", align_corners=False)
    assert checkerboard(image).min() > 10
    assert checkerboard(blurred).max() < 1.5


def test_the_checkerboard_metric_needs_32_pixels():
    assert checkerboard(noise(3, 3, 32, 47)).shape == (3,)
    with pytest.raises(ValueError, match="32 pixels"):
        checkerboard(noise(1, 3, 31, 64))


def test_dead_tiles_are_counted():
    image = noise(1, 3, 64, 64).clamp(-1, 1)
    assert dead_tiles(image).item() == 0
    image[..., :16, :16] = -1  # black
    image[..., 16:32, :16] = 1  # white
    image[..., 32:48, :16] = torch.tensor([1.0, -1.0, -1.0])[:, None, None]  # a pure red
    image[..., 48:, :16] = 0  # flat, but neither black nor white
    image[..., 48:, 16:32] = -1
    image[..., 48:56, 16:32] = -0.9  # dark with texture
    # Pink: only one channel is at an end of its range.
    image[..., 16:32, 16:32] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    assert dead_tiles(image).item() == pytest.approx(3 / 16)
    assert dead_tiles(image, 8).item() == pytest.approx(14 / 64)
    both = torch.cat([image, torch.full_like(image, -1)])
    assert dead_tiles(both).tolist() == pytest.approx([3 / 16, 1])


def test_nearly_black_tiles_are_dead_and_remaining_pixels_are_ignored():
    level = 2 / 255
    assert dead_tiles(torch.full((1, 3, 20, 9), -1 + 7 * level)).item() == 1
    assert dead_tiles(torch.full((1, 3, 20, 9), -1 + 9 * level)).item() == 0
    image = torch.full((1, 3, 20, 20), -1.0)
    image[..., 16:, :] = 0.5
    assert dead_tiles(image).item() == 1  # the last four rows do not fill a tile


def test_inversion_is_minus_1_and_colors_alone_do_not_matter():
    image, other = noise(2, 3, 24, 24), noise(2, 3, 24, 24, seed=1)
    assert color_inversion(0.1 + 0.5 * image, image).tolist() == pytest.approx([1, 1])
    assert color_inversion(-image, image).tolist() == pytest.approx([-1, -1])
    assert color_inversion(other, image).abs().max() < 0.2
    assert color_inversion(torch.ones(2, 3, 24, 24), image).tolist() == [0, 0]
    # Swapping red and green changes the luminance partly, since their weights differ.
    primary = torch.zeros(1, 3, 1, 4)
    primary[0, 0, 0], primary[0, 1, 0] = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 1.0, 0, 0])
    # Luminances 0.299, 0.587, 0, 0 against 0.587, 0.299, 0, 0.
    x, y = torch.tensor([0.299, 0.587, 0, 0]), torch.tensor([0.587, 0.299, 0, 0])
    expected = torch.corrcoef(torch.stack([x, y]))[0, 1].item()
    assert color_inversion(primary[:, [1, 0, 2]], primary).item() == pytest.approx(
        expected, abs=1e-6
    )
