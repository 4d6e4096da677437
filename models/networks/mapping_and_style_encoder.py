"""The two sources of styles in StarGAN v2 (Choi et al. 2020, arXiv:1912.01865, App. D).

Styles are mapped from noise or encoded from a reference image, by one head per domain. A training
batch consists of equal shares of all domains in order: the first share is for the first head.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from models.networks.layers.conv_encoder import ConvEncoder, select_domain_heads
from models.networks.layers.initialization import init_weights


class MappingNetwork(nn.Module):
    """Map noise to styles of a domain."""

    @dataclass(frozen=True)
    class Config:
        channels: int = 512  # width of every layer
        layers: int = 4  # layers that all domains share; each domain's head has as many
        latent_dim: int = 16  # size of the noise vector that a style is mapped from

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
        self.shared = nn.Sequential(*_linear_relu_layers(config.latent_dim, width, layers))
        self.heads = nn.ModuleList(
            nn.Sequential(
                *_linear_relu_layers(width, width, layers - 1), nn.Linear(width, style_dim)
            )
            for _ in range(domains)
        )
        init_weights(self, "kaiming")

    def forward(self, latent: Tensor, domain: int | None = None) -> Tensor:
        """Map [B, latent_dim] to styles [B, style_dim]: of `domain`, or all in equal shares."""
        return select_domain_heads(self.heads, self.shared(latent), domain)


class StarGANv2StyleEncoder(nn.Module):
    """Encode the style of images, with a head for the domain that they belong to."""

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
        """Map [B, C, size, size] to styles [B, style_dim]: of `domain`, or all in equal shares."""
        return select_domain_heads(self.heads, self.features(image), domain)


def _linear_relu_layers(in_channels: int, width: int, layers: int) -> Iterator[nn.Module]:
    for _ in range(layers):
        yield nn.Linear(in_channels, width)
        yield nn.ReLU()
        in_channels = width
