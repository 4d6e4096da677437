"""Detect memorized training images: nearest neighbours, near duplicates, and MiFID's penalty."""

import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.luminance_correlation import luminance
from metrics.set_distances.finite import require_finite

MAX_BLOCK = 2**23  # similarities in memory at once: 64 MiB
GRID = 16  # luminance cells of a descriptor along a side
COLOR_GRID = 4  # color cells of a descriptor along a side
MAX_COPY_DISTANCE = 0.03  # cosine distance of descriptors below which an image counts as a copy


def mifid(distance: float, fake: Tensor, bank: Tensor, threshold: float = 0.1) -> float:
    """Return the Fréchet distance `distance`, penalised if the fakes copy the training set (MiFID).

    Bai et al. 2021 (arXiv:2106.03062), Sec. 3, with the constants of the Kaggle competitions: the
    penalty is a mean over the fakes, of the distance of each to its nearest training image
    (torchmetrics averages over the real images instead). `distance` is divided by
    `copy_distance(fake, bank)` if that is below `threshold`, and unchanged otherwise. 1e-15 keeps
    exact copies finite. The threshold depends on the features; 0.1 is Kaggle's for Inception's.
    """
    require_finite(fake, bank)
    memorization = copy_distance(fake, bank)
    return distance / ((memorization if memorization < threshold else 1.0) + 1e-15)


def copy_distance(fake: Tensor, bank: Tensor) -> float:
    """Return the mean over fakes [N, D] of the smallest cosine distance to the bank [M, D].

    From 0 (all copies of training features) to 1. The distance is 1 - |cos|, Kaggle's definition,
    for which opposite features are equal; the sign makes no difference for features without
    negative values, such as Inception's.
    """
    smallest = [1 - block.abs().amax(dim=1) for _, block in _similarities(fake, bank)]
    return torch.cat(smallest).clamp(min=0).mean().item()


def nearest(features: Tensor, bank: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """Return cosine distances and indices, [N, count] each, of the nearest rows of `bank` [M, D].

    For features [N, D], nearest first; distances are 0 (same direction) to 2 (opposite). A row of
    zeros has distance 1 to every other. `count` is lowered to M.
    """
    best = [block.topk(min(count, len(bank)), dim=1) for _, block in _similarities(features, bank)]
    similarities = torch.cat([values for values, _ in best])
    return (1 - similarities).clamp(min=0), torch.cat([indices for _, indices in best])


def near_duplicates(
    features: Tensor, bank: Tensor, threshold: float = MAX_COPY_DISTANCE
) -> tuple[Tensor, Tensor]:
    """Return every pair (row of `features`, row of `bank`) nearer than `threshold`, nearest first.

    Returns pairs [P, 2] of indices and cosine distances [P]. The default threshold suits
    `image_descriptor`; learned features need another. A set compared with itself also pairs every
    row with itself.
    """
    pairs, distances = [], []
    for start, block in _similarities(features, bank):
        close = (1 - block < threshold).nonzero()
        distances.append((1 - block[close[:, 0], close[:, 1]]).clamp(min=0))
        pairs.append(close + torch.tensor([start, 0], device=close.device))
    order = torch.cat(distances).argsort(stable=True)
    return torch.cat(pairs)[order], torch.cat(distances)[order]


def image_descriptor(images: Tensor) -> Tensor:
    """Return a descriptor [B, 512] of length 1 and in float64 of images [B, C, H, W] in [-1, 1].

    It consists of the differences between neighbouring cells of the luminance averaged over 16x16
    areas, and for RGB of the two color differences averaged over 4x4 areas, minus their means. It
    needs no learned weights. Compression, resizing, brightness and contrast change it little; a
    crop, a flip or a rotation gives another descriptor. It uses differences rather than values
    because most photographs have similar lowest frequencies. A flat image has a descriptor of
    zeros, which is near no other.
    """
    light = luminance(images)
    cells = _area_means(light, GRID)
    parts = [cells.diff(dim=2).flatten(1), cells.diff(dim=3).flatten(1)]
    if images.shape[1] == 3:
        # Blue and red minus luminance, as in JPEG's color space.
        colors = _area_means(images.double()[:, [2, 0]] - light, COLOR_GRID)
    else:
        colors = light.new_zeros(len(images), 2, COLOR_GRID, COLOR_GRID)
    parts.append((colors - colors.mean(dim=(2, 3), keepdim=True)).flatten(1))
    descriptor = torch.cat(parts, dim=1)
    length = descriptor.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-9, descriptor / length.clamp(min=1e-9), 0.0)


def _similarities(features: Tensor, bank: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks: the index of the first feature, and these features' cosines to the bank."""
    bank = F.normalize(bank.double(), dim=1)
    size = max(1, MAX_BLOCK // len(bank))
    for start in range(0, len(features), size):
        yield start, F.normalize(features[start : start + size].double(), dim=1) @ bank.T


def _area_means(planes: Tensor, cells: int) -> Tensor:
    """Return [B, C, cells, cells], the exact means over equal areas of [B, C, H, W]."""
    down, across = (_overlap(side, cells).to(planes.device) for side in planes.shape[-2:])
    return down @ planes @ across.T


@functools.lru_cache(maxsize=64)
def _overlap(side: int, cells: int) -> Tensor:
    """Return [cells, side], each pixel's weight in each cell; cell borders may split pixels."""
    edges = torch.arange(cells + 1, dtype=torch.float64)[:, None] * side / cells
    pixels = torch.arange(side, dtype=torch.float64)
    shared = torch.minimum(edges[1:], pixels + 1) - torch.maximum(edges[:-1], pixels)
    return shared.clamp(min=0) * cells / side
