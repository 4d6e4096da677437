"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020, arXiv:2006.10738).

Each takes and returns [B, C, H, W] in about [-1, 1] and draws for every image on its own; gradients
pass through to a fake's generator.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

DiffAugmentOp = Literal["color", "translation", "cutout"]


def color(images: Tensor) -> Tensor:
    """Change brightness by U(-0.5, 0.5), saturation times U(0, 2), contrast times U(0.5, 1.5)."""
    brightness, saturation, contrast = _uniform(images, 3)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return middle + (images - middle) * (contrast + 0.5)


def translation(images: Tensor) -> Tensor:
    """Move by up to an eighth of the size in both directions; what comes in is 0."""
    rows, columns = _positions(images)
    down, right = _uniform(images, 2)
    height, width = images.shape[-2:]
    rows = rows + _steps(2 * down - 1, height / 8)
    columns = columns + _steps(2 * right - 1, width / 8)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    moved = images.flatten(2).gather(2, places.flatten(1)[:, None].expand(-1, images.shape[1], -1))
    return moved.view_as(images) * inside


def cutout(images: Tensor) -> Tensor:
    """Set a square of half the size, anywhere, to 0."""
    rows, columns = _positions(images)
    down, right = _uniform(images, 2)
    height, width = images.shape[-2:]
    top, left = _steps(down, height) - height // 4, _steps(right, width) - width // 4
    inside = (rows >= top) & (rows < top + height // 2)
    inside = inside & (columns >= left) & (columns < left + width // 2)
    return images * ~inside


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "color": color, "translation": translation, "cutout": cutout,
}  # fmt: skip


def diff_augment(images: Tensor, kinds: Sequence[str], probability: Tensor | float = 1.0) -> Tensor:
    """Apply each kind to each image with this probability."""
    for kind in kinds:
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < probability
        images = torch.where(chosen, AUGMENTATIONS[kind](images), images)
    return images


def _uniform(images: Tensor, count: int) -> Tensor:
    """Draw `count` numbers in [0, 1) for each image, [count, B, 1, 1, 1]."""
    return torch.rand(count, len(images), 1, 1, 1, device=images.device)


def _positions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of every row and column, [1, 1, H, 1] and [1, 1, 1, W]."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    return rows, torch.arange(width, device=images.device).view(1, 1, 1, -1)


def _steps(share: Tensor, size: float) -> Tensor:
    """Return a share of a size in whole pixels."""
    return (share * size).round().long()
