"""The networks of StarGAN v2 that have a head for each domain (Choi et al. 2020, arXiv:1912.01865, App. D).

Training rows come in equal shares of all domains, in order: the first share is for the first head.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.discriminators.patch_discriminator import apply_spectral_norm
from models.networks.layers.initialization import init_weights
from models.networks.layers.styled_blocks import SLOPE, StarGANv2ResidualBlock

END = 4  # pixels a side, which the last convolution of a style encoder or discriminator takes in


class MappingNetwork(nn.Module):
    """Map noise to styles of a domain."""

    @dataclass(frozen=True)
    class Config:
        channels: int = 512  # width of every layer
        layers: int = 4  # that all domains share, and as many of each domain's own
        latent_dim: int = 16  # numbers of noise that a style is made of

        def __post_init__(self) -> None:
            for option in ("channels", "layers", "latent_dim"):
                if getattr(self, option) < 1:
                    raise ValueError(
                        f"method.mapping.{option} must be at least 1, got {getattr(self, option)}"
                    )

    def __init__(self, domains: int, style_dim: int, config: Config) -> None:
        super().__init__()
        self.config = config
        width, layers = config.channels, config.layers
        self.supports_distributed = nn.Sequential(*_linear(config.latent_dim, width, layers))
        self.heads = nn.ModuleList(
            nn.Sequential(*_linear(width, width, layers - 1), nn.Linear(width, style_dim))
            for _ in range(domains)
        )
        init_weights(self, "kaiming")

    def forward(self, latent: Tensor, domain: int | None = None) -> Tensor:
        """Map [B, latent_dim] to styles [B, style_dim]: of `domain`, or of all in equal shares."""
        return select_domain_heads(self.heads, self.supports_distributed(latent), domain)


class ConvEncoder(nn.Module):
    """Read `size` x `size` pixels as one vector: halved down to 4x4, which one convolution takes in."""

    @dataclass(frozen=True)
    class Config:
        channels: int = 64  # width of the first layer; the paper's is 16384 / method.size
        max_channels: int = 512  # each downsampling doubles the channels, up to this

        def __post_init__(self) -> None:
            if self.channels < 1 or self.max_channels < 1:
                raise ValueError(
                    "channels and max_channels of method.discriminator and method.style_encoder must be "
                    f"at least 1, got {self.channels} and {self.max_channels}"
                )

    def __init__(self, in_channels: int, size: int, config: Config) -> None:
        super().__init__()
        width = config.channels
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1)]
        for _ in range(int(math.log2(size // END))):
            wider = min(2 * width, config.max_channels)
            layers.append(StarGANv2ResidualBlock(width, wider, normed=False, downsample=True))
            width = wider
        self.width = width
        self.layers = nn.Sequential(
            *layers, nn.LeakyReLU(SLOPE), nn.Conv2d(width, width, END), nn.LeakyReLU(SLOPE)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, C, size, size] to [B, width]."""
        return self.layers(image).flatten(1)


class StarGANv2StyleEncoder(nn.Module):
    """Read the style of images, as images of their domain."""

    def __init__(
        self,
        in_channels: int,
        domains: int,
        style_dim: int,
        size: int,
        config: ConvEncoder.Config,
    ) -> None:
        super().__init__()
        self.features = ConvEncoder(in_channels, size, config)
        self.heads = nn.ModuleList(
            nn.Linear(self.features.width, style_dim) for _ in range(domains)
        )
        init_weights(self, "kaiming")

    def forward(self, image: Tensor, domain: int | None = None) -> Tensor:
        """Map [B, C, size, size] to styles [B, style_dim]: of `domain`, or of all in equal shares."""
        return select_domain_heads(self.heads, self.features(image), domain)


class MultiDomainDiscriminator(nn.Module):
    """Tell real from fake in each domain: one score a domain, of which an image's own counts."""

    @dataclass(frozen=True)
    class Config(ConvEncoder.Config):
        spectral: bool = False  # spectral norm: every layer's largest singular value is 1

    def __init__(self, in_channels: int, domains: int, size: int, config: Config) -> None:
        super().__init__()
        self.domains = domains
        self.features = ConvEncoder(in_channels, size, config)
        self.heads = nn.Linear(self.features.width, domains)
        init_weights(self, "kaiming")
        if config.spectral:
            apply_spectral_norm(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, C, size, size], equal shares of all domains in order, to unbounded scores [B, 1]."""
        own = torch.arange(self.domains, device=image.device)
        own = own.repeat_interleave(len(image) // self.domains)
        return self.heads(self.features(image)).gather(1, own[:, None])


def select_domain_heads(heads: nn.ModuleList, features: Tensor, domain: int | None) -> Tensor:
    """Apply the head of `domain` to features [B, C], or to equal shares of the rows each its own."""
    if domain is not None:
        return heads[domain](features)
    shares = features.chunk(len(heads))
    return torch.cat([head(share) for head, share in zip(heads, shares, strict=True)])


def _linear(in_channels: int, width: int, layers: int) -> Iterator[nn.Module]:
    for _ in range(layers):
        yield nn.Linear(in_channels, width)
        yield nn.ReLU()
        in_channels = width
