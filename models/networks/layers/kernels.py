"""The functions that layers compute with, and their exchange for compiled or other ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5


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


@dataclass(frozen=True)
class KernelSet:
    """One function for each kind of layer that can be computed in several ways, with equal results."""

    norm_act_pad: Callable[[Tensor, Tensor | None, float, int], Tensor] = instance_norm_act_pad
    reflect_pad: Callable[[Tensor, int], Tensor] = reflect_pad
    conv3x3: Callable[..., Tensor] = F.conv2d  # (input, weight, bias)


EAGER = KernelSet()


class KernelLayer(nn.Module):
    """A layer that computes with the functions of its `kernels`."""

    kernels: KernelSet = EAGER


def use_kernels(network: nn.Module, kernels: KernelSet) -> None:
    """Let all layers of a network compute with `kernels`."""
    for layer in network.modules():
        if isinstance(layer, KernelLayer):
            layer.kernels = kernels


@contextmanager
def eager_kernels(network: nn.Module) -> Iterator[None]:
    """Compute with the eager functions of a network: compiled ones have no second derivative."""
    layers = [layer for layer in network.modules() if isinstance(layer, KernelLayer)]
    before = [layer.kernels for layer in layers]
    try:
        for layer in layers:
            layer.kernels = EAGER
        yield
    finally:
        for layer, kernels in zip(layers, before, strict=True):
            layer.kernels = kernels
