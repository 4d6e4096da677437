"""The exchangeable functions of padding, norm and convolution layers: eager or compiled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5


def reflect_pad(x: Tensor, padding: int) -> Tensor:
    """Pad [B, C, H, W] by reflection with `padding` pixels on every side."""
    if torch.are_deterministic_algorithms_enabled():
        return reflected(reflected(x, padding, 2), padding, 3)
    return F.pad(x, (padding,) * 4, mode="reflect")


def reflected(x: Tensor, padding: int, dim: int) -> Tensor:
    """Pad one dimension by reflection, concatenated from slices.

    The backward of CUDA's own kernel adds gradients in varying order; this one is deterministic.
    """
    size = x.shape[dim]
    before = x.narrow(dim, 1, padding).flip(dim)
    after = x.narrow(dim, size - 1 - padding, padding).flip(dim)
    return torch.cat([before, x, after], dim)


def instance_norm_act_pad(x: Tensor, shortcut: Tensor | None, slope: float, padding: int) -> Tensor:
    """Normalise each channel of each image to mean 0 and variance 1, then call `act_pad`."""
    # A float32 weight makes the statistics of bf16 features float32 too; with bf16 statistics, a
    # mean of ten standard deviations makes the error ten times as large.
    bf16 = x.dtype == torch.bfloat16
    weight = x.new_ones(x.shape[1], dtype=torch.float32) if bf16 else None
    return act_pad(F.instance_norm(x, weight=weight, eps=EPSILON), shortcut, slope, padding)


def fusible_norm_act_pad(x: Tensor, shortcut: Tensor | None, slope: float, padding: int) -> Tensor:
    """Compute `instance_norm_act_pad` by elementwise operations, which a compiler can fuse.

    Statistics are in float32, or in float64 for float64 features.
    """
    full = x if x.dtype == torch.float64 else x.float()
    variance, mean = torch.var_mean(full, dim=(2, 3), correction=0, keepdim=True)
    normed = (full - mean) * torch.rsqrt(variance + EPSILON)
    if shortcut is not None:
        normed = normed + shortcut.to(full.dtype)
    return act_pad(normed, None, slope, padding).to(x.dtype)


def act_pad(x: Tensor, shortcut: Tensor | None, slope: float, padding: int) -> Tensor:
    """Apply the steps after a norm: add the shortcut, apply the (leaky) ReLU, pad by reflection."""
    # Not in place: an instance norm returns a view; writing into it costs the backward a copy.
    if shortcut is not None:
        x = x + shortcut
    if slope != 1.0:
        x = F.relu(x) if slope == 0.0 else F.leaky_relu(x, slope)
    return reflect_pad(x, padding) if padding else x


@dataclass(frozen=True)
class KernelSet:
    """One function for each kind of layer that has several implementations with equal results."""

    norm_act_pad: Callable[[Tensor, Tensor | None, float, int], Tensor] = instance_norm_act_pad
    reflect_pad: Callable[[Tensor, int], Tensor] = reflect_pad
    conv3x3: Callable[..., Tensor] = F.conv2d  # (input, weight, bias)


EAGER = KernelSet()


class KernelLayer(nn.Module):
    """A layer that calls the functions of its `kernels`, which `use_kernels` can exchange."""

    kernels: KernelSet = EAGER


def use_kernels(network: nn.Module, kernels: KernelSet) -> None:
    """Set `kernels` on all layers of a network."""
    for layer in network.modules():
        if isinstance(layer, KernelLayer):
            layer.kernels = kernels


@contextmanager
def eager_kernels(network: nn.Module) -> Iterator[None]:
    """Use the eager kernels of a network in a block: compiled ones have no second derivative."""
    layers = [layer for layer in network.modules() if isinstance(layer, KernelLayer)]
    before = [layer.kernels for layer in layers]
    try:
        for layer in layers:
            layer.kernels = EAGER
        yield
    finally:
        for layer, kernels in zip(layers, before, strict=True):
            layer.kernels = kernels
