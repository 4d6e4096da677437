"""Encode an image as one vector, and apply one output layer per domain to such vectors.

The style encoder and the discriminator of StarGAN v2 share this body (Choi et al. 2020,
arXiv:1912.01865, App. D).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.layers.stargan_v2_blocks import SLOPE, StarGANv2ResidualBlock

FINAL_SIZE = 4  # side in pixels of the feature map that the last convolution covers


class ConvEncoder(nn.Module):
    """Encode `size` x `size` pixels as one vector.

    Residual blocks halve the size down to 4x4, which one convolution then covers.
    """

    @dataclass(frozen=True)
    class Config:
        channels: int = 64  # width of the first layer; the paper's is 16384 / method.size
        max_channels: int = 512  # each downsampling doubles the channels, up to this

        def __post_init__(self) -> None:
            if self.channels < 1 or self.max_channels < 1:
                raise ValueError(
                    "channels and max_channels of method.discriminator and method.style_encoder "
                    f"must be at least 1, got {self.channels} and {self.max_channels}"
                )

    def __init__(self, in_channels: int, size: int, config: Config) -> None:
        super().__init__()
        width = config.channels
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1)]
        for _ in range(int(math.log2(size // FINAL_SIZE))):
            wider = min(2 * width, config.max_channels)
            layers.append(StarGANv2ResidualBlock(width, wider, normed=False, downsample=True))
            width = wider
        self.width = width
        self.layers = nn.Sequential(
            *layers, nn.LeakyReLU(SLOPE), nn.Conv2d(width, width, FINAL_SIZE), nn.LeakyReLU(SLOPE)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, C, size, size] to [B, width]."""
        return self.layers(image).flatten(1)


def select_domain_heads(heads: nn.ModuleList, features: Tensor, domain: int | None) -> Tensor:
    """Apply the head of `domain` to features [B, C]; with None, each head to its own domain's rows.

    Without `domain` the batch consists of equal shares of all domains in order: the first share
    goes through the first head.
    """
    if domain is not None:
        return heads[domain](features)
    shares = features.chunk(len(heads))
    return torch.cat([head(share) for head, share in zip(heads, shares, strict=True)])
