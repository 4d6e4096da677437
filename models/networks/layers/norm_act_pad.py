"""Norm, activation and padding between two convolutions, and convolutions before a norm."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers.op_backends import KernelLayer, act_pad

Norm = Literal["instance", "batch"]


class NormActPad(KernelLayer):
    """Norm, shortcut, activation and reflection padding: one pass over memory if compiled.

    `slope` is the (leaky) ReLU's for negative values; 1 means no activation. `instance` has no
    affine parameters and no running statistics (Ulyanov et al. 2016, arXiv:1607.08022), so an
    image's result depends on that image alone; `batch` has both.
    """

    def __init__(self, channels: int, norm: Norm, slope: float = 0.0, padding: int = 0) -> None:
        super().__init__()
        self.slope = slope
        self.padding = padding
        self.batch_norm = nn.BatchNorm2d(channels) if norm == "batch" else None

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Map [B, C, H, W] to [B, C, H + 2 padding, W + 2 padding].

        `shortcut` is added after the norm.
        """
        if self.batch_norm is None:
            return self.kernels.norm_act_pad(x, shortcut, self.slope, self.padding)
        return act_pad(self.batch_norm(x), shortcut, self.slope, self.padding)


class ReflectPad(KernelLayer):
    """Reflection padding of `padding` pixels on every side, exchangeable through `kernels`."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return self.kernels.reflect_pad(x, self.padding)


def bias_before(norm: Norm) -> bool:
    """Return whether a convolution before this norm has a bias.

    The reference code has one before an instance norm, which cancels it. It has no effect, but it
    makes parameter counts and checkpoints agree with the published ones.
    """
    return norm == "instance"


def bias_at_inference(bias: Tensor | None) -> Tensor | None:
    """Return the bias of a convolution before a norm, or None while gradients are enabled.

    The norm cancels it, so training skips it: it gets no gradient and never changes. Inference adds
    it, so that outputs are rounded as in the network from which a checkpoint came.
    """
    return None if torch.is_grad_enabled() else bias


class NormedConv2d(nn.Conv2d):
    """A convolution before a norm, whose bias is added at inference only."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, bias_at_inference(self.bias))

    def with_bias(self, input: Tensor) -> Tensor:
        """Return the convolution with its bias, for features that are read before the norm."""
        return self._conv_forward(input, self.weight, self.bias)


class NormedUpConv2d(nn.ConvTranspose2d):
    """A transposed 3x3 convolution before a norm, which doubles the size."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, 2, padding=1, output_padding=1, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return F.conv_transpose2d(input, self.weight, bias_at_inference(self.bias), 2, 1, 1)
