"""The pre-activation residual blocks of StarGAN v2 (Choi et al. 2020, arXiv:1912.01865)."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers.op_backends import instance_norm_act_pad

SLOPE = 0.2  # of every leaky ReLU of StarGAN v2
UNIT_VARIANCE = 1 / math.sqrt(2)  # scale that preserves the variance in a sum of two features


class StarGANv2ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; `downsample` pools by 2x2 averages between them."""

    def __init__(self, in_channels: int, out_channels: int, normed: bool, downsample: bool) -> None:
        super().__init__()
        self.downsample = downsample
        self.norm_1 = nn.InstanceNorm2d(in_channels, affine=True) if normed else nn.Identity()
        self.first = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.norm_2 = nn.InstanceNorm2d(in_channels, affine=True) if normed else nn.Identity()
        self.second = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.shortcut = _shortcut(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, out_channels, H, W]; `downsample` halves H and W."""
        # Pooling before the 1x1 convolution gives the same result for a quarter of the work.
        shortcut = self.shortcut(F.avg_pool2d(x, 2) if self.downsample else x)
        x = self.first(F.leaky_relu(self.norm_1(x), SLOPE))
        x = F.avg_pool2d(x, 2) if self.downsample else x
        x = self.second(F.leaky_relu(self.norm_2(x), SLOPE))
        return (shortcut + x) * UNIT_VARIANCE


class StarGANv2AdaINBlock(nn.Module):
    """A residual block with adaptive instance norms; `upsample` doubles the size.

    Without `residual` the shortcut is unused: the generator adds high-pass features in its place.
    Its weights exist nevertheless, so that parameter counts agree with the published ones.
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
        """Map [B, in_channels, H, W] and [B, style_dim] to [B, out_channels, H, W].

        `upsample` doubles H and W.
        """
        shortcut = self.shortcut(x) if self.residual else None
        x = F.leaky_relu(self.norm_1(x, style), SLOPE)
        x = self.first(_upsampled(x) if self.upsample else x)
        x = self.second(F.leaky_relu(self.norm_2(x, style), SLOPE))
        if shortcut is None:
            return x
        return (x + (_upsampled(shortcut) if self.upsample else shortcut)) * UNIT_VARIANCE


class AdaptiveInstanceNorm(nn.Module):
    """AdaIN: a style sets each channel's mean and deviation.

    Huang & Belongie 2017 (arXiv:1703.06868).
    """

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.affine = nn.Linear(style_dim, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Normalise [B, C, H, W] to mean beta and deviation 1 + gamma, computed from the style."""
        gamma, beta = self.affine(style)[..., None, None].chunk(2, dim=1)
        return (1 + gamma) * instance_norm_act_pad(x, None, 1.0, 0) + beta


def _shortcut(in_channels: int, out_channels: int) -> nn.Module:
    return (
        nn.Identity()
        if in_channels == out_channels
        else nn.Conv2d(in_channels, out_channels, 1, bias=False)
    )


def _upsampled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
