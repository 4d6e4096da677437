"""The luminance of images and the correlation of two planes, on which several metrics build."""

import torch
from torch import Tensor

LEVEL = 2 / 255  # one step of an 8-bit image, in [-1, 1]


def luminance(images: Tensor) -> Tensor:
    """Return the luminance [B, 1, H, W] in float64 of images [B, C, H, W], in the same range.

    Three channels are red, green and blue, weighted by ITU-R BT.601 (0.299, 0.587, 0.114); any
    other number of channels is averaged.
    """
    images = images.double()
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=images.device)
    return (images * weights[:, None, None]).sum(dim=1, keepdim=True)


def standardize(planes: Tensor) -> Tensor:
    """Scale each plane of [B, 1, H, W] to mean 0 and deviation 1; a flat plane becomes all 0."""
    centered = planes - planes.mean(dim=(1, 2, 3), keepdim=True)
    std = centered.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    # A flat plane minus its mean is rounding noise, which must not be scaled up to deviation 1.
    return torch.where(std > 1e-9, centered / std.clamp(min=1e-9), 0.0)


def correlation(planes: Tensor, others: Tensor) -> Tensor:
    """Return Pearson's correlation [B], -1 to 1, of pairs [B, 1, H, W]; 0 if either is flat."""
    return (standardize(planes) * standardize(others)).mean(dim=(1, 2, 3))
