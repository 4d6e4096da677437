"""The discriminator of MUNIT and UNIT: small networks of one architecture at several image scales.

Wang et al. 2018 (arXiv:1711.11585, Sec. 3.2), with the layers of Huang et al. 2018
(arXiv:1804.04732, Sec. 5.1).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from models.networks.discriminators.patch_discriminator import apply_spectral_norm, pyramid
from models.networks.layers.initialization import InitType, init_weights
from models.networks.layers.norm_act_pad import ReflectPad


class MultiscaleDiscriminator(nn.Module):
    """Score images at scales 1, 1/2 and 1/4 by d64, d128, d256, d512 and a 1x1 convolution each.

    d is reflection padding, a 4x4 convolution of stride 2 and a leaky ReLU, without a norm.
    """

    @dataclass(frozen=True)
    class Config:
        channels: int = 64  # width of the first layer; each layer doubles it
        layers: int = 4  # downsamplings at each scale
        scales: int = 3  # networks, each at half the resolution of the one before
        init_type: InitType = "normal"  # initial weights; kaiming for narrow networks without norms
        spectral: bool = False  # spectral norm: every layer's largest singular value is 1

        def __post_init__(self) -> None:
            if self.channels < 1:
                raise ValueError(
                    f"method.discriminator.channels must be at least 1, got {self.channels}"
                )
            for option, maximum in (("layers", 7), ("scales", 5)):
                if not 1 <= getattr(self, option) <= maximum:
                    raise ValueError(
                        f"method.discriminator.{option} must be 1 to {maximum}, "
                        f"got {getattr(self, option)}"
                    )

    def __init__(self, in_channels: int, config: Config) -> None:
        super().__init__()
        self.config = config
        self.bodies = nn.ModuleList(_body(in_channels, config) for _ in range(config.scales))
        init_weights(self, config.init_type)
        if config.spectral:
            apply_spectral_norm(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map [B, C, H, W] in [-1, 1] to a list of unbounded scores [B, 1, h, w], finest first."""
        images = pyramid(image, self.config.scales)
        return [body(x) for body, x in zip(self.bodies, images, strict=True)]

    def score_size(self, side: int) -> int:
        """Return the coarsest scale's scores along `side` pixels; at 0 the image is too small."""
        for _ in range(self.config.scales - 1):
            side = (side - 1) // 2 + 1
        for _ in range(self.config.layers):
            side = side // 2  # a single pixel cannot be reflected
        return side


def _body(in_channels: int, config: MultiscaleDiscriminator.Config) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in range(config.layers):
        out_channels = config.channels * 2**layer
        layers += [ReflectPad(1), nn.Conv2d(in_channels, out_channels, 4, 2), nn.LeakyReLU(0.2)]
        in_channels = out_channels
    return nn.Sequential(*layers, nn.Conv2d(in_channels, 1, 1))
