"""Sliced Wasserstein distance between two sets of images (Karras et al. 2018, Sec. 5)."""

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 7  # side in pixels of the paper's neighbourhoods


def sliced_wasserstein(
    images: list[Tensor],
    reference: list[Tensor],
    patches: int = 128,
    directions: int = 128,
    seed: int = 0,
) -> float:
    """Return the sliced Wasserstein distance of two sets of images [1, C, H, W] in [-1, 1].

    Progressive Growing of GANs (arXiv:1710.10196): `patches` 7x7 neighbourhoods are drawn from
    every level of each image's Laplacian pyramid (down to 16 pixels), normalised per channel by the
    reference's mean and deviation so that differences in color count, and projected on random
    `directions`. The result is the mean over levels of the mean distance between sorted
    projections. It needs no learned features. 0 for equal sets. The same seed draws the same
    patches and directions.
    """
    levels = min(_levels(image) for image in images + reference)
    distances = []
    for level in range(levels):
        # Both sets draw from the same random stream, so that a set has distance 0 to itself.
        fake, real = (
            _descriptors(x, level, levels, patches, torch.Generator().manual_seed(seed))
            for x in (images, reference)
        )
        generator = torch.Generator().manual_seed(seed + 1)
        rows = min(len(fake), len(real))
        fake, real = (
            x if len(x) == rows else x[torch.randperm(len(x), generator=generator)[:rows]]
            for x in (fake, real)
        )
        mean, std = real.mean(dim=(0, 2), keepdim=True), real.std(dim=(0, 2), keepdim=True)
        fake, real = (((x - mean) / (std + 1e-8)).flatten(1) for x in (fake, real))
        axes = F.normalize(torch.randn(fake.shape[1], directions, generator=generator), dim=0)
        fake, real = ((x @ axes).sort(dim=0).values for x in (fake, real))
        distances.append((fake - real).abs().mean())
    return torch.stack(distances).mean().item()


def _levels(image: Tensor) -> int:
    side, levels = min(image.shape[-2:]), 1
    while side // 2 >= 16:
        side, levels = side // 2, levels + 1
    return levels


def _descriptors(
    images: list[Tensor], level: int, levels: int, patches: int, generator: torch.Generator
) -> Tensor:
    """Return random neighbourhoods [N * patches, C, 49] from one pyramid level."""
    rows = []
    for image in images:
        band = F.pad(_band(image.float().cpu(), level, levels), (PATCH // 2,) * 4, mode="replicate")
        windows = band[0].unfold(1, PATCH, 1).unfold(2, PATCH, 1)  # a view: [C, H, W, 7, 7]
        down, right = (
            torch.randint(side, (patches,), generator=generator) for side in windows.shape[1:3]
        )
        rows.append(windows[:, down, right].transpose(0, 1).flatten(2))
    return torch.cat(rows)


def _band(image: Tensor, level: int, levels: int) -> Tensor:
    for _ in range(level):
        image = F.avg_pool2d(image, 2)
    if level == levels - 1:
        return image
    coarse = F.avg_pool2d(image, 2)
    return image - F.interpolate(
        coarse, size=image.shape[-2:], mode="bilinear", align_corners=False
    )
