"""The sliced Wasserstein distance against a second implementation and distances that are known."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from metrics.set_distances import sliced_wasserstein as module
from metrics.set_distances.sliced_wasserstein import (
    describe,
    distances,
    pyramid_levels,
    sliced_wasserstein,
)


def noise(count: int, scale: float, seed: int, size: int = 32, shift: float = 0.0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(1, 3, size, size, generator=generator) * scale + shift for _ in range(count)
    ]


def blurred(images):
    return [torch.nn.functional.avg_pool2d(image, 3, 1, 1) for image in images]


def plain_pyramid(image: np.ndarray, levels: int) -> list[np.ndarray]:
    """The pyramid by dense filters, one plane after the other."""
    row = np.array([1, 4, 6, 4, 1]) / 16
    bands = [image]
    for _ in range(levels - 1):
        fine = bands[-1]
        coarse = np.stack([ndimage.convolve(x, np.outer(row, row), mode="mirror") for x in fine])
        coarse = coarse[:, ::2, ::2]
        spread = np.zeros_like(fine)
        spread[:, ::2, ::2] = coarse
        up = np.stack([ndimage.convolve(x, 4 * np.outer(row, row), mode="mirror") for x in spread])
        bands[-1:] = [fine - up, coarse]
    return bands


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (45, 37), (128, 70)])
def test_it_equals_a_plain_implementation_on_the_same_draws(size):
    random = np.random.default_rng(0)
    sets = [random.integers(0, high, (3, 3, *size)).astype(np.float64) for high in (256, 120)]
    levels = pyramid_levels(torch.zeros(1, 3, *size))
    per_level = []
    for level in range(levels):
        projections = []
        for images in sets:
            rows = []
            for number, image in enumerate(images):
                bands, generator = plain_pyramid(image, levels), torch.Generator()
                generator.manual_seed(number)
                for band in bands[: level + 1]:  # draws go from the finest band to the coarsest
                    height, width = band.shape[1:]
                    down = torch.randint(height - 6, (128,), generator=generator)
                    right = torch.randint(width - 6, (128,), generator=generator)
                band = bands[level]
                rows += [band[:, y : y + 7, x : x + 7] for y, x in zip(down, right, strict=True)]
            rows = np.stack(rows)
            rows = rows - rows.mean(axis=(0, 2, 3), keepdims=True)
            rows = rows / rows.std(axis=(0, 2, 3), keepdims=True)
            axes = torch.randn(147, 512, generator=torch.Generator().manual_seed(level),
                               dtype=torch.float64).numpy()  # fmt: skip
            axes = axes / np.linalg.norm(axes, axis=0)
            projections.append(np.sort(rows.reshape(len(rows), -1) @ axes, axis=0))
        per_level.append(np.abs(projections[0] - projections[1]).mean())
    images, others = ([torch.tensor(x)[None] / 127.5 - 1 for x in each] for each in sets)
    assert sliced_wasserstein(images, others) == pytest.approx(1000 * np.mean(per_level), rel=1e-5)


def test_a_set_is_nearer_to_one_of_its_distribution_than_to_others():
    reference = noise(80, 0.3, 0)
    like, lines = noise(80, 0.3, 1), [x[..., :1].expand(1, 3, 32, 32) for x in noise(80, 0.3, 2)]
    distance = sliced_wasserstein(like, reference)
    assert distance * 1.5 < sliced_wasserstein(blurred(like), reference)
    assert distance * 3 < sliced_wasserstein(lines, reference)


def test_contrast_and_mean_color_do_not_count():
    reference = noise(8, 0.1, 0)
    changed = [image * 0.5 + 0.2 for image in reference]
    assert sliced_wasserstein(changed, reference) == pytest.approx(0, abs=0.05)


def test_a_set_has_distance_0_to_itself():
    images = noise(4, 0.3, 0)
    assert sliced_wasserstein(images, [image.clone() for image in images]) == 0


def test_flat_sets_have_a_finite_distance():
    flat = [torch.full((1, 3, 32, 32), x) for x in (-0.5, 0.25, 0.7)]
    same = [torch.full((1, 3, 32, 32), 0.1)] * 3
    assert 0 < sliced_wasserstein(same, noise(3, 0.3, 0)) < 2000
    assert sliced_wasserstein(same, same) == 0
    assert np.isfinite(sliced_wasserstein(flat, same))


def test_sets_are_thinned_to_the_number_of_the_smaller_one():
    few, many = noise(3, 0.3, 0), noise(6, 0.3, 1)
    described = [[describe(x, 2, n) for n, x in enumerate(each)] for each in (few, many)]
    thinned = distances({"few": described[0]}, described[1][::2])
    assert distances({"few": described[0]}, described[1]) == thinned


def test_the_same_seed_gives_the_same_value_and_sizes_may_differ():
    one, two = noise(4, 0.3, 0), noise(3, 0.4, 1, size=48)
    assert sliced_wasserstein(one, two) == sliced_wasserstein(one, two)
    assert sliced_wasserstein(one, two, seed=1) != sliced_wasserstein(one, two)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    sliced_wasserstein(one, two)
    assert torch.equal(before, torch.get_rng_state())


def test_values_that_are_not_finite_and_images_without_a_neighbourhood_are_refused():
    broken = noise(3, 0.3, 0)
    broken[1][0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        sliced_wasserstein(broken, noise(3, 0.3, 1))
    with pytest.raises(ValueError, match="7 pixels"):
        sliced_wasserstein(noise(2, 0.3, 0, size=6), noise(2, 0.3, 1, size=6))
    assert module.PATCH == 7
