"""What the colour-blind metrics begin with: luminance, and how alike two planes are."""

import torch
from torch import Tensor

LEVEL = 2 / 255  # one step of an 8-bit image, in [-1, 1]


def luminance(images: Tensor) -> Tensor:
    """Return the luminance [B, 1, H, W] in float64 of images [B, C, H, W], in the same range.

    Three channels are red, green and blue and weighted by ITU-R BT.601 (0.299, 0.587, 0.114); any
    other number of channels is averaged.
    """
    images = images.double()
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=images.device)
    return (images * weights[:, None, None]).sum(dim=1, keepdim=True)


def standardise(planes: Tensor) -> Tensor:
    """Return planes [B, 1, H, W] with mean 0 and deviation 1 each; a flat plane becomes all 0."""
    centred = planes - planes.mean(dim=(1, 2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    # What the centring of a flat plane leaves is rounding, and must not be blown up to deviation 1.
    return torch.where(deviation > 1e-9, centred / deviation.clamp(min=1e-9), 0.0)


def correlation(planes: Tensor, others: Tensor) -> Tensor:
    """Return Pearson's correlation [B], -1 to 1, of pairs [B, 1, H, W]; 0 where either is flat."""
    return (standardise(planes) * standardise(others)).mean(dim=(1, 2, 3))
