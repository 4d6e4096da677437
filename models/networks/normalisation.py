"""The normalisation layers that generators and discriminators choose between."""

from typing import Literal

from torch import nn

Norm = Literal["instance", "batch"]


def normalisation(kind: Norm, channels: int) -> nn.Module:
    """Return a norm over [B, channels, H, W].

    `instance` has no affine part and no running statistics, so an image's result depends on that
    image alone, in training and after; `batch` is affine and keeps statistics.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, affine=False, track_running_stats=False)


def bias_before(kind: Norm) -> bool:
    """Say whether a convolution before this norm has a bias.

    The reference keeps it before an instance norm, which cancels it: it is dead weight, kept so that
    parameter counts and checkpoints agree with the published ones.
    """
    return kind == "instance"
