"""Normalisation, and all that stands with it between two convolutions."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["instance", "batch"]
EPSILON = 1e-5


class NormActPad(nn.Module):
    """Norm, shortcut or activation, and reflection padding: one pass over memory where compiled.

    `slope` is that of a (leaky) ReLU for negative values, 1 for no activation. `instance` has no
    affine part and no running statistics (Ulyanov et al. 2016, arXiv:1607.08022), so an image's
    result depends on that image alone; `batch` is affine and keeps statistics.
    """

    def __init__(self, channels: int, norm: Norm, slope: float = 0.0, padding: int = 0) -> None:
        super().__init__()
        self.slope = slope
        self.padding = padding
        self.batch_norm = nn.BatchNorm2d(channels) if norm == "batch" else None
        self.kernel = instance_norm_act_pad  # engine/runtime.py may put a compiled one in its place

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Map [B, C, H, W] to [B, C, H + 2 padding, W + 2 padding]; `shortcut` is added after the norm."""
        if self.batch_norm is None:
            return self.kernel(x, shortcut, self.slope, self.padding)
        return act_pad(self.batch_norm(x), shortcut, self.slope, self.padding)


class ReflectPad(nn.Module):
    """Reflection padding of `padding` pixels on every side, compiled with what stands around it."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.kernel = reflect_pad  # engine/runtime.py may put a compiled one in its place

    def forward(self, x: Tensor) -> Tensor:
        return self.kernel(x, self.padding)


def reflect_pad(x: Tensor, padding: int) -> Tensor:
    """Extend [B, C, H, W] by its own reflection."""
    if torch.are_deterministic_algorithms_enabled():
        return reflected(reflected(x, padding, 2), padding, 3)
    return F.pad(x, (padding,) * 4, mode="reflect")


def reflected(x: Tensor, padding: int, dim: int) -> Tensor:
    """Extend one dimension by its reflection, put together from parts.

    CUDA's own kernel adds gradients up in any order; this one's are the same in every run.
    """
    size = x.shape[dim]
    before = x.narrow(dim, 1, padding).flip(dim)
    after = x.narrow(dim, size - 1 - padding, padding).flip(dim)
    return torch.cat([before, x, after], dim)


def instance_norm_act_pad(x: Tensor, shortcut: Tensor | None, slope: float, padding: int) -> Tensor:
    """Normalise every channel of every image to mean 0 and variance 1, add, activate and pad."""
    # With float32 weights the statistics of bf16 features are float32 too; without, a mean of ten
    # deviations costs a tenth of the digits that bf16 has.
    needed = x.dtype == torch.bfloat16
    weight = x.new_ones(x.shape[1], dtype=torch.float32) if needed else None
    return act_pad(F.instance_norm(x, weight=weight, eps=EPSILON), shortcut, slope, padding)


def fusible_norm_act_pad(x: Tensor, shortcut: Tensor | None, slope: float, padding: int) -> Tensor:
    """Do the same in elementary operations, which a compiler fuses; statistics in float32."""
    full = x if x.dtype == torch.float64 else x.float()
    variance, mean = torch.var_mean(full, dim=(2, 3), correction=0, keepdim=True)
    normed = (full - mean) * torch.rsqrt(variance + EPSILON)
    if shortcut is not None:
        normed = normed + shortcut.to(full.dtype)
    return act_pad(normed, None, slope, padding).to(x.dtype)


def act_pad(x: Tensor, shortcut: Tensor | None, slope: float, padding: int) -> Tensor:
    """Add the shortcut, apply the (leaky) ReLU, reflect the border: what stands behind a norm."""
    # Not in place: an instance norm's result is a view, and a backward through writes into it copies.
    if shortcut is not None:
        x = x + shortcut
    if slope != 1.0:
        x = F.relu(x) if slope == 0.0 else F.leaky_relu(x, slope)
    return reflect_pad(x, padding) if padding else x


def bias_before(norm: Norm) -> bool:
    """Say whether a convolution before this norm has a bias.

    The reference keeps it before an instance norm, which cancels it: it is dead weight, kept so that
    parameter counts and checkpoints agree with the published ones.
    """
    return norm == "instance"


def bias_at_inference(bias: Tensor | None) -> Tensor | None:
    """Return a bias before a norm as far as it is computed: not while learning, where it costs most.

    It takes no gradient and stays what it was. What a translator shows is computed with it, and so
    rounded as the network that a checkpoint comes from rounds.
    """
    return None if torch.is_grad_enabled() else bias


class NormedConv2d(nn.Conv2d):
    """A convolution before a norm."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, bias_at_inference(self.bias))

    def with_bias(self, input: Tensor) -> Tensor:
        """Return what it computes for somebody who looks at it before the norm does."""
        return self._conv_forward(input, self.weight, self.bias)


class NormedUpConv2d(nn.ConvTranspose2d):
    """A transposed convolution before a norm: 3x3, to twice the size."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, 2, padding=1, output_padding=1, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return F.conv_transpose2d(input, self.weight, bias_at_inference(self.bias), 2, 1, 1)
