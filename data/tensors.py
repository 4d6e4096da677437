"""Convert between uint8 pixels and float tensors in [-1, 1]."""

import numpy as np
import torch
from torch import Tensor


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Return uint8 [H, W, C] as a contiguous uint8 tensor [C, H, W]."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return torch.from_numpy(planes if planes.flags.writeable else planes.copy())


def normalize(images: Tensor) -> Tensor:
    """Map uint8 0..255 to float32 [-1, 1]; meant for the device, where it costs nothing."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def denormalize(images: Tensor) -> Tensor:
    """Map [-1, 1] to uint8, rounded: the exact inverse of `normalize` on its range."""
    return images.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
