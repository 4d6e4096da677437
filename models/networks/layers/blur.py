"""Antialiased down- and upsampling.

Zhang 2019, Making Convolutional Networks Shift-Invariant Again.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers.op_backends import reflect_pad

WEIGHTS = (0.25, 0.5, 0.25)  # the 3-tap binomial filter


class BlurDown(nn.Module):
    """Blur with [1, 2, 1] / 4 along both axes, then keep every second pixel.

    Maps [B, C, H, W] to [B, C, ceil(H / 2), ceil(W / 2)].
    """

    def forward(self, x: Tensor) -> Tensor:
        return blur_down(reflect_pad(x, 1))


def blur_down(x: Tensor) -> Tensor:
    """Blur features [B, C, H, W], padded by one pixel, and keep every second pixel."""
    row = x.new_tensor(WEIGHTS)
    kernel = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, stride=2, groups=x.shape[1])


def blur_up() -> nn.Module:
    """Return a layer that doubles the size with [1, 3, 3, 1] / 4 along both axes (bilinear)."""
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
