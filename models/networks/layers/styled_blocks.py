"""The residual blocks of StarGAN v2 (Choi et al. 2020, arXiv:1912.01865): norm and activation come first."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers.kernels import instance_norm_act_pad

SLOPE = 0.2  # of every leaky ReLU
KEEP_VARIANCE = 1 / math.sqrt(2)  # of a sum of two features of equal variance


class StarGANv2ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; `halves`: averaging 2x2 pixels between them."""

    def __init__(self, in_channels: int, out_channels: int, normed: bool, downsample: bool) -> None:
        super().__init__()
        self.downsample = downsample
        self.norm_1 = nn.InstanceNorm2d(in_channels, affine=True) if normed else nn.Identity()
        self.first = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.norm_2 = nn.InstanceNorm2d(in_channels, affine=True) if normed else nn.Identity()
        self.second = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.shortcut = _shortcut(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inward, H, W] to [B, outward, H, W], or half of H and W."""
        # A 1x1 convolution of means is the mean of 1x1 convolutions, for a quarter of the work.
        shortcut = self.shortcut(F.avg_pool2d(x, 2) if self.downsample else x)
        x = self.first(F.leaky_relu(self.norm_1(x), SLOPE))
        x = F.avg_pool2d(x, 2) if self.downsample else x
        x = self.second(F.leaky_relu(self.norm_2(x), SLOPE))
        return (shortcut + x) * KEEP_VARIANCE


class StarGANv2AdaINBlock(nn.Module):
    """The same with norms that a style scales and shifts; `doubles`: every pixel becomes 2x2.

    Without `residual` the shortcut stays unused: high-pass features take its place. Its weights are
    there all the same, so that parameter counts agree with the published ones.
    """

    def __init__(
        self, in_channels: int, out_channels: int, style_dim: int, upsample: bool, residual: bool
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.residual = residual
        self.norm_1 = AdaptiveInstanceNorm(in_channels, style_dim)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_2 = AdaptiveInstanceNorm(out_channels, style_dim)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = _shortcut(in_channels, out_channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map [B, inward, H, W] and [B, style_dim] to [B, outward, H, W], or twice H and W."""
        shortcut = self.shortcut(x) if self.residual else None
        x = F.leaky_relu(self.norm_1(x, style), SLOPE)
        x = self.first(_doubled(x) if self.upsample else x)
        x = self.second(F.leaky_relu(self.norm_2(x, style), SLOPE))
        if shortcut is None:
            return x
        return (x + (_doubled(shortcut) if self.upsample else shortcut)) * KEEP_VARIANCE


class AdaptiveInstanceNorm(nn.Module):
    """AdaIN (Huang & Belongie 2017, arXiv:1703.06868): a style gives every channel mean and deviation."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.affine = nn.Linear(style_dim, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same with mean beta and deviation 1 + gamma."""
        gamma, beta = self.affine(style)[..., None, None].chunk(2, dim=1)
        return (1 + gamma) * instance_norm_act_pad(x, None, 1.0, 0) + beta


def _shortcut(in_channels: int, out_channels: int) -> nn.Module:
    return (
        nn.Identity()
        if in_channels == out_channels
        else nn.Conv2d(in_channels, out_channels, 1, bias=False)
    )


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
