"""Differentiable augmentation of discriminator inputs (Zhao et al. 2020, arXiv:2006.10738).

Each operation maps [B, C, H, W] in about [-1, 1] to the same shape, with random numbers of its own
for each image; gradients pass through to the generator of a fake.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

DiffAugmentOp = Literal["color", "translation", "cutout"]


def color(images: Tensor) -> Tensor:
    """Shift brightness by U(-0.5, 0.5), scale saturation by U(0, 2) and contrast by U(0.5, 1.5)."""
    brightness, saturation, contrast = _uniform(images, 3)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translation(images: Tensor) -> Tensor:
    """Translate by up to 1/8 of the size in both directions; uncovered pixels become 0."""
    rows, columns = _row_and_column_indices(images)
    down, right = _uniform(images, 2)
    height, width = images.shape[-2:]
    rows = rows + _whole_pixels(2 * down - 1, height / 8)
    columns = columns + _whole_pixels(2 * right - 1, width / 8)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    source = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    moved = images.flatten(2).gather(2, source.flatten(1)[:, None].expand(-1, images.shape[1], -1))
    return moved.view_as(images) * inside


def cutout(images: Tensor) -> Tensor:
    """Set a square of half the size, at a random position, to 0."""
    rows, columns = _row_and_column_indices(images)
    down, right = _uniform(images, 2)
    height, width = images.shape[-2:]
    top = _whole_pixels(down, height) - height // 4
    left = _whole_pixels(right, width) - width // 4
    inside = (rows >= top) & (rows < top + height // 2)
    inside = inside & (columns >= left) & (columns < left + width // 2)
    return images * ~inside


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "color": color, "translation": translation, "cutout": cutout,
}  # fmt: skip


def diff_augment(
    images: Tensor, policy: Sequence[str], probability: Tensor | float = 1.0
) -> Tensor:
    """Apply each operation of `policy`, in order, to each image with this probability."""
    for operation in policy:
        applies = torch.rand(len(images), 1, 1, 1, device=images.device) < probability
        images = torch.where(applies, AUGMENTATIONS[operation](images), images)
    return images


def _uniform(images: Tensor, count: int) -> Tensor:
    """Draw `count` numbers in [0, 1) for each image, [count, B, 1, 1, 1]."""
    return torch.rand(count, len(images), 1, 1, 1, device=images.device)


def _row_and_column_indices(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of every row and of every column, [1, 1, H, 1] and [1, 1, 1, W]."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    return rows, torch.arange(width, device=images.device).view(1, 1, 1, -1)


def _whole_pixels(fraction: Tensor, size: float) -> Tensor:
    """Return a fraction of a size, rounded to whole pixels."""
    return (fraction * size).round().long()
