"""Colours and spectra of sets whose distance is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from metrics.color_and_spectrum import color_distance, spectrum_distance


def flat(*levels: float, size: int = 16) -> torch.Tensor:
    return (torch.tensor(levels) / 127.5 - 1)[None, :, None, None].expand(1, -1, size, size)


def noise(count: int, scale: float, size: int = 64, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 1, size, size, generator=generator) * scale for _ in range(count)]


def test_flat_colours_are_apart_by_their_levels():
    # 10, 0 and 40 levels in the three channels.
    assert color_distance([flat(100, 50, 20)], [flat(110, 50, 60)]) == pytest.approx(50 / 3)


def test_half_the_pixels_that_move_count_by_half():
    half = torch.cat([flat(0), flat(255)], dim=3)
    assert color_distance([half], [flat(0)]) == pytest.approx(127.5)
    # Where the halves lie does not matter, nor how often an image appears.
    assert color_distance([half, half.flip(3)], [half]) == 0


def test_every_image_counts_alike_whatever_its_size():
    fake = [flat(100, size=8), flat(200, size=64)]
    assert color_distance(fake, [flat(100)]) == pytest.approx(50)


def test_what_a_file_cannot_hold_counts_as_its_end():
    assert color_distance([torch.full((1, 3, 4, 4), 1.7)], [flat(255, 255, 255)]) == 0


def test_noise_of_twice_the_amplitude_is_6_decibels_away():
    quiet = noise(2, 0.2)
    loud = [image * 2 for image in quiet]
    assert spectrum_distance(quiet, loud) == pytest.approx(20 * math.log10(2), abs=0.01)
    assert spectrum_distance(loud, quiet) == pytest.approx(20 * math.log10(2), abs=0.01)


def test_noise_and_nothing_are_apart_by_its_variance_over_that_of_rounding():
    # A spectrum is scaled so that white noise lies at its variance in every ring.
    expected = 10 * math.log10(0.1**2 / ((2 / 255) ** 2 / 12))
    measured = spectrum_distance(noise(20, 0.1, 128), [torch.zeros(1, 1, 64, 64)])
    assert measured == pytest.approx(expected, abs=0.15)  # the inner rings hold few frequencies


def test_a_wave_lies_in_its_ring_alone():
    # 12 cycles in 64 pixels. The window spreads it by one frequency across and down: radii from 11 to
    # 13.04 fall in four of 32 rings; in the others there is nothing.
    wave = torch.cos(torch.arange(64) * 2 * math.pi * 12 / 64).expand(1, 1, 64, 64)
    stronger = 10 * wave
    assert spectrum_distance([wave], [stronger]) == pytest.approx(20 * 4 / 32, rel=0.01)


def test_equal_sets_are_at_0_and_brightness_and_mirroring_do_not_matter():
    images = [image * 0.1 for image in noise(3, 1.0, 33)]
    assert color_distance(images, [x.clone() for x in images]) == 0
    assert spectrum_distance(images, [x.clone() for x in images]) == 0
    assert spectrum_distance(images, [x.flip(3) + 0.3 for x in images]) < 1e-3


def test_blur_is_further_than_another_draw_of_the_same_noise():
    images = noise(8, 0.3)
    blurred = [F.avg_pool2d(image, 3, 1, 1) for image in images]
    assert spectrum_distance(images, noise(8, 0.3, seed=1)) < 1
    assert spectrum_distance(images, blurred) > 5


def test_sizes_may_differ_and_be_small():
    one, two = noise(20, 0.3, 48), noise(30, 0.3, 64, seed=1)
    assert spectrum_distance(one, [F.pad(x, (0, 0, -16, 0)) for x in two]) < 1
    assert math.isfinite(spectrum_distance(noise(1, 0.3, 2), noise(1, 0.3, 3)))
    assert math.isfinite(spectrum_distance(noise(1, 0.3, 7), noise(1, 0.3, 9)))
    with pytest.raises(ValueError, match="two pixels"):
        spectrum_distance(noise(1, 1, 1), one)
