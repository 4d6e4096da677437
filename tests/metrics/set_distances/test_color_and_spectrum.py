"""Color and spectrum distances of sets whose distance is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from metrics.set_distances.color_and_spectrum import color_distance, spectrum_distance


def flat(*levels: float, size: int = 16) -> torch.Tensor:
    return (torch.tensor(levels) / 127.5 - 1)[None, :, None, None].expand(1, -1, size, size)


def noise(count: int, scale: float, size: int = 64, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 1, size, size, generator=generator) * scale for _ in range(count)]


def test_the_distance_of_flat_colors_is_their_mean_difference_in_levels():
    # The three channels differ by 10, 0 and 40 levels.
    assert color_distance([flat(100, 50, 20)], [flat(110, 50, 60)]) == pytest.approx(50 / 3)


def test_half_the_pixels_that_move_count_by_half():
    half = torch.cat([flat(0), flat(255)], dim=3)
    assert color_distance([half], [flat(0)]) == pytest.approx(127.5)
    # The position of the halves does not matter, nor how often an image is repeated.
    assert color_distance([half, half.flip(3)], [half]) == 0


def test_every_image_has_the_same_weight_whatever_its_size():
    fake = [flat(100, size=8), flat(200, size=64)]
    assert color_distance(fake, [flat(100)]) == pytest.approx(50)


def test_values_outside_the_range_of_a_file_are_clipped():
    assert color_distance([torch.full((1, 3, 4, 4), 1.7)], [flat(255, 255, 255)]) == 0


def test_noise_of_twice_the_amplitude_is_6_decibels_away():
    quiet = noise(2, 0.2)
    loud = [image * 2 for image in quiet]
    assert spectrum_distance(quiet, loud) == pytest.approx(20 * math.log10(2), abs=0.01)
    assert spectrum_distance(loud, quiet) == pytest.approx(20 * math.log10(2), abs=0.01)


def test_noise_differs_from_flat_images_by_its_variance_over_that_of_rounding():
    # A spectrum is scaled so that white noise has its variance in every ring.
    expected = 10 * math.log10(0.1**2 / ((2 / 255) ** 2 / 12))
    measured = spectrum_distance(noise(20, 0.1, 128), [torch.zeros(1, 1, 64, 64)])
    assert measured == pytest.approx(expected, abs=0.15)  # the inner rings have few frequencies


def test_a_wave_changes_its_own_rings_alone():
    # 12 cycles in 64 pixels. The window spreads it by one frequency in both directions: radii from
    # 11 to 13.04 are in four of 32 rings; the others are empty.
    wave = torch.cos(torch.arange(64) * 2 * math.pi * 12 / 64).expand(1, 1, 64, 64)
    stronger = 10 * wave
    assert spectrum_distance([wave], [stronger]) == pytest.approx(20 * 4 / 32, rel=0.01)


def test_equal_sets_have_distance_0_and_brightness_and_flips_do_not_matter():
    images = [image * 0.1 for image in noise(3, 1.0, 33)]
    assert color_distance(images, [x.clone() for x in images]) == 0
    assert spectrum_distance(images, [x.clone() for x in images]) == 0
    assert spectrum_distance(images, [x.flip(3) + 0.3 for x in images]) < 1e-3


def test_blur_gives_a_greater_distance_than_another_sample_of_the_same_noise():
    images = noise(8, 0.3)
    blurred = [F.avg_pool2d(image, 3, 1, 1) for image in images]
    assert spectrum_distance(images, noise(8, 0.3, seed=1)) < 1
    assert spectrum_distance(images, blurred) > 5


def test_sizes_may_differ_and_be_small():
    one, two = noise(20, 0.3, 48), noise(30, 0.3, 64, seed=1)
    assert spectrum_distance(one, [F.pad(x, (0, 0, -16, 0)) for x in two]) < 1
    assert math.isfinite(spectrum_distance(noise(1, 0.3, 2), noise(1, 0.3, 3)))
    assert math.isfinite(spectrum_distance(noise(1, 0.3, 7), noise(1, 0.3, 9)))
    with pytest.raises(ValueError, match="at least 2 pixels"):
        spectrum_distance(noise(1, 1, 1), one)
