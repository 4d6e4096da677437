"""Whether images were seen before: nearest neighbours, near duplicates, and a penalty for copies."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.luminance_correlation import luminance

BLOCK = 2**23  # similarities held at once: 64 MiB
GRID = 16  # cells of a fingerprint along a side
COLOUR_GRID = 4
NEAR = 0.03  # cosine distance of fingerprints below which a picture counts as a copy


def mifid(distance: float, fake: Tensor, bank: Tensor, threshold: float = 0.1) -> float:
    """Return a Fréchet distance raised by how closely the fakes copy the training set.

    Bai et al. 2021 (arXiv:2106.03062), Sec. 3, with the figures of the Kaggle competitions: `distance`
    divided by `copy_distance(fake, bank)` where that is below `threshold`, and left as it is
    otherwise. 1e-15 keeps exact copies finite. The threshold belongs to the features; 0.1 is
    Kaggle's, for Inception's.
    """
    copied = copy_distance(fake, bank)
    return distance / ((copied if copied < threshold else 1.0) + 1e-15)


def copy_distance(fake: Tensor, bank: Tensor) -> float:
    """Return the mean over fakes [N, D] of the least cosine distance to a training feature [M, D].

    From 0 (all copies) to 1; 1 - |cos|, so that opposite features count as equal. Kaggle's definition;
    for features without negative values, as Inception's, the sign makes no difference.
    """
    least = [1 - block.abs().amax(dim=1) for _, block in _similarities(fake, bank)]
    return torch.cat(least).clamp(min=0).mean().item()


def nearest(features: Tensor, bank: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """Return cosine distances and indices, [N, count] each, of the nearest rows of `bank` [M, D].

    For features [N, D], nearest first; distances 0 (same direction) to 2 (opposite). A row of zeros is
    at distance 1 from everything. `count` is lowered to M.
    """
    found = [block.topk(min(count, len(bank)), dim=1) for _, block in _similarities(features, bank)]
    similarities = torch.cat([values for values, _ in found])
    return (1 - similarities).clamp(min=0), torch.cat([indices for _, indices in found])


def near_duplicates(
    features: Tensor, bank: Tensor, threshold: float = NEAR
) -> tuple[Tensor, Tensor]:
    """Return every pair (row of `features`, row of `bank`) nearer than `threshold`, nearest first.

    Pairs [P, 2] of indices and cosine distances [P]. The default suits `fingerprint`; learned features
    need one of their own. A set against itself pairs every row with itself.
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

    The differences between neighbouring cells of the luminance averaged over 16x16 areas, and for RGB
    the colour differences averaged over 4x4, their means removed. It needs no learned weights, and
    survives compression, a change of size, brightness or contrast; a crop, a mirroring or a turn is
    another picture to it. Differences rather than values, since in most photographs the lowest
    frequencies are alike. A flat image has a descriptor of zeros, which resembles nothing.
    """
    light = luminance(images)
    cells = _areas(light, GRID)
    parts = [cells.diff(dim=2).flatten(1), cells.diff(dim=3).flatten(1)]
    if images.shape[1] == 3:
        # Blue and red less luminance, as in JPEG's colour space.
        colours = _areas(images.double()[:, [2, 0]] - light, COLOUR_GRID)
    else:
        colours = light.new_zeros(len(images), 2, COLOUR_GRID, COLOUR_GRID)
    parts.append((colours - colours.mean(dim=(2, 3), keepdim=True)).flatten(1))
    descriptor = torch.cat(parts, dim=1)
    length = descriptor.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-9, descriptor / length.clamp(min=1e-9), 0.0)


def _similarities(features: Tensor, bank: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the cosines of some features to the whole bank at a time, with the first row's number."""
    bank = F.normalize(bank.double(), dim=1)
    size = max(1, BLOCK // len(bank))
    for start in range(0, len(features), size):
        yield start, F.normalize(features[start : start + size].double(), dim=1) @ bank.T


def _areas(planes: Tensor, cells: int) -> Tensor:
    """Return [B, C, cells, cells], the exact mean over equal areas of [B, C, H, W]."""
    down, across = (_overlap(side, cells).to(planes.device) for side in planes.shape[-2:])
    return down @ planes @ across.T


def _overlap(side: int, cells: int) -> Tensor:
    """Return [cells, side]: the share of each pixel in each cell, where borders may cut pixels."""
    edges = torch.arange(cells + 1, dtype=torch.float64)[:, None] * side / cells
    pixels = torch.arange(side, dtype=torch.float64)
    shared = torch.minimum(edges[1:], pixels + 1) - torch.maximum(edges[:-1], pixels)
    return shared.clamp(min=0) * cells / side
