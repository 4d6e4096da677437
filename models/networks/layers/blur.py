"""Sampling down without aliases (Zhang 2019, Making Convolutional Networks Shift-Invariant Again)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers.kernels import reflect_pad

WEIGHTS = (0.25, 0.5, 0.25)  # the binomial filter of three taps


class BlurDown(nn.Module):
    """Blur with [1, 2, 1] down and across, then keep every second pixel: ceil(H / 2) x ceil(W / 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return blur_down(reflect_pad(x, 1))


def blur_down(x: Tensor) -> Tensor:
    """Map features [B, C, H, W] with a border of one pixel to every second one, blurred."""
    row = x.new_tensor(WEIGHTS)
    kernel = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, stride=2, groups=x.shape[1])


def blur_up() -> nn.Module:
    """Return twice-as-large with [1, 3, 3, 1] / 4 down and across: bilinear between pixel centres."""
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
