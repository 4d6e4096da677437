"""Convert between pixels (uint8, or float in [0, 1]) and float tensors in [-1, 1]."""

import numpy as np
import torch
from torch import Tensor


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Return pixels [H, W, C] as a contiguous tensor [C, H, W] of their type."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return torch.from_numpy(planes if planes.flags.writeable else planes.copy())


def normalize(images: Tensor) -> Tensor:
    """Map pixels to float32 [-1, 1]; meant for the device, where it costs nothing."""
    if images.is_floating_point():
        return images.to(torch.float32) * 2.0 - 1.0
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def denormalize(images: Tensor) -> Tensor:
    """Map [-1, 1] to uint8, rounded: the exact inverse of `normalize` on its range."""
    return images.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def to_unit(images: Tensor) -> Tensor:
    """Map [-1, 1] to float32 [0, 1], the pixels of a domain with a range of values."""
    return images.float().add(1.0).mul(0.5).clamp(0, 1)


def to_pixels(images: Tensor, has_range: bool) -> Tensor:
    """Map [-1, 1] to the pixels of a domain: uint8, or float32 in [0, 1] if it has a range."""
    return to_unit(images) if has_range else denormalize(images)
