"""Sliced Wasserstein distance between two sets of images (Karras et al. 2018, Sec. 5)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 7  # side in pixels of the paper's neighbourhoods
PATCHES = 128  # neighbourhoods of each image and level
DIRECTIONS = 4 * 128  # the authors average 4 repetitions of 128 directions
MIN_SIDE = 16  # pixels of the coarsest level
FLAT = 1e-3  # 8-bit levels: a channel whose deviation is below it has no structure
SEEDS = 1_000_003  # numbers of images between the random streams of two seeds
FILTER = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16  # a row of the 5x5 binomial filter
Descriptors = list[Tensor]
"""The neighbourhoods of one image, [128, C, 7, 7] for each level of its pyramid, finest first."""


def sliced_wasserstein(
    images: Sequence[Tensor], reference: Sequence[Tensor], seed: int = 0
) -> float:
    """Return the sliced Wasserstein distance of two sets of images [1, C, H, W] in [-1, 1], x 1000.

    Progressive Growing of GANs (arXiv:1710.10196), equal to the authors' code on the same draws:
    128 neighbourhoods of 7x7 pixels from every level of each image's Laplacian pyramid, normalized
    per channel by the mean and deviation of their own set, projected on 512 random directions; the
    mean distance of the sorted projections, averaged over the levels. Normalization hides the
    contrast and the mean color of a set: use the color distance for those. It decreases with the
    number of images, also between equal distributions.

    Unlike there, sides need not be powers of two, sets are thinned evenly to the same number of
    images, and the draws of an image depend only on its position and `seed`: equal sets have a
    distance of 0. ValueError for images under 7 pixels a side and for values that are not finite.
    """
    levels = min(pyramid_levels(image) for image in (*images, *reference))
    sets = [
        [describe(image, levels, number, seed) for number, image in enumerate(each)]
        for each in (images, reference)
    ]
    return distances({"": sets[0]}, sets[1], seed)[""]


def pyramid_levels(image: Tensor) -> int:
    """Return the number of levels of an image's pyramid: the coarsest has 16 pixels or more."""
    side, levels = min(image.shape[-2:]), 1
    while side // 2 >= MIN_SIDE:
        side, levels = side // 2, levels + 1
    return levels


def describe(image: Tensor, levels: int, number: int = 0, seed: int = 0) -> Descriptors:
    """Return neighbourhoods of an image [1, C, H, W] in [-1, 1], the `number`-th of its set."""
    if min(image.shape[-2:]) < PATCH:
        raise ValueError(f"A sliced Wasserstein distance needs {PATCH} pixels a side.")
    generator = torch.Generator().manual_seed(seed * SEEDS + number)
    return [_neighbourhoods(band[0], generator) for band in laplacian_pyramid(image, levels)]


def distances(
    sets: Mapping[str, Sequence[Descriptors]], reference: Sequence[Descriptors], seed: int = 0
) -> dict[str, float]:
    """Return name -> sliced Wasserstein distance of each described set to the reference.

    A set and the reference are thinned evenly to the number of images of the smaller one, so that a
    distance does not depend on the other sets.
    """
    levels = min(len(each) for images in (*sets.values(), reference) for each in images)
    totals = dict.fromkeys(sets, 0.0)
    for level in range(levels):
        projected: dict[int, np.ndarray] = {}  # the reference, by its number of images
        for name, images in sets.items():
            count = min(len(images), len(reference))
            if count not in projected:
                projected[count] = _projections(_thinned(reference, count), level, seed)
            mine = _projections(_thinned(images, count), level, seed)
            totals[name] += float(np.abs(mine - projected[count]).mean(dtype=np.float64))
    return {name: 1000 * total / levels for name, total in totals.items()}


def laplacian_pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """Return the bands of an image [1, C, H, W] in [-1, 1], finest first, in 8-bit levels.

    The last is what remains at the coarsest level. Burt and Adelson 1983, with the binomial filter
    and mirrored borders, as in OpenCV's pyrDown and pyrUp.
    """
    bands = [(image.float().cpu() + 1) * 127.5]
    for _ in range(1, levels):
        fine = bands[-1]
        coarse = _filtered(fine)[:, :, ::2, ::2]
        spread = torch.zeros_like(fine)
        spread[:, :, ::2, ::2] = coarse
        bands[-1] = fine - 4 * _filtered(spread)
        bands.append(coarse)
    return bands


def _filtered(x: Tensor) -> Tensor:
    """Convolve planes with the 5x5 binomial filter, one direction after the other."""
    channels = x.shape[1]
    rows = FILTER.expand(channels, 1, 5)
    x = F.pad(x, (2, 2, 2, 2), mode="reflect")
    x = F.conv2d(x, rows[:, :, None, :], groups=channels)
    return F.conv2d(x, rows[:, :, :, None], groups=channels)


def _neighbourhoods(band: Tensor, generator: torch.Generator) -> Tensor:
    """Return random neighbourhoods [128, C, 7, 7] of a band [C, H, W]."""
    windows = band.unfold(1, PATCH, 1).unfold(2, PATCH, 1)  # a view: [C, H - 6, W - 6, 7, 7]
    down, right = (
        torch.randint(side, (PATCHES,), generator=generator) for side in windows.shape[1:3]
    )
    return windows[:, down, right].transpose(0, 1).contiguous()


def _projections(images: Sequence[Descriptors], level: int, seed: int) -> np.ndarray:
    """Return the sorted projections [512, N * 128] of a level of a set."""
    rows = torch.cat([each[level] for each in images])
    if not torch.isfinite(rows).all():
        raise ValueError("A sliced Wasserstein distance needs finite values.")
    mean = rows.mean(dim=(0, 2, 3), keepdim=True)
    std = rows.std(dim=(0, 2, 3), keepdim=True, correction=0)
    rows = torch.where(std > FLAT, (rows - mean) / std.clamp(min=FLAT), 0.0).flatten(1)
    generator = torch.Generator().manual_seed(seed * SEEDS + level)
    axes = torch.randn(rows.shape[1], DIRECTIONS, generator=generator, dtype=torch.float64)
    axes = F.normalize(axes, dim=0).float()
    return np.sort(
        (axes.T @ rows.T).numpy(), axis=1
    )  # faster than torch, which also returns indices


def _thinned(images: Sequence[Descriptors], count: int) -> Sequence[Descriptors]:
    if len(images) == count:
        return images
    return [images[number * len(images) // count] for number in range(count)]
