"""The networks of MUNIT and UNIT: content encoder, style encoder, and decoders.

Huang et al. 2018 (arXiv:1804.04732, Sec. 5.1); UNIT's networks are those of the same
published code. All weights are initialised as in He et al. 2015 (arXiv:1502.01852).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.generators.resnet_generator import ResidualBlock
from models.networks.layers.initialization import init_weights
from models.networks.layers.layer_norm import LayerNorm
from models.networks.layers.norm_act_pad import NormActPad, NormedConv2d, ReflectPad
from models.networks.layers.op_backends import instance_norm_act_pad
from models.networks.layers.winograd import Conv3x3


@dataclass(frozen=True)
class AutoencoderConfig:
    """Options of a content encoder and its decoder."""

    channels: int = 64  # width of the first layer; a content code is 4 times as wide
    blocks: int = 4  # residual blocks in the content encoder, and as many in the decoder

    def __post_init__(self) -> None:
        if self.channels < 1 or self.blocks < 1:
            raise ValueError("method.generator.channels and blocks must be at least 1")


@dataclass(frozen=True)
class StyledConfig(AutoencoderConfig):
    """Options of a content encoder and a decoder with styles."""

    style_dim: int = 8  # size of a style vector
    style_width: int = 256  # hidden units of the MLP from a style to the norms' parameters

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.style_dim < 1 or self.style_width < 1:
            raise ValueError("method.generator.style_dim and style_width must be at least 1")


class ContentEncoder(nn.Module):
    """Encode the content of images, at a quarter of the size: c7s1-64, d128, d256, R256 x blocks.

    d is a 4x4 convolution of stride 2. Instance norms remove the style; padding is by reflection.
    """

    multiple = 4  # two downsamplings
    minimum = 8  # the residual blocks reflect one pixel at a quarter of the size

    def __init__(self, in_channels: int, config: AutoencoderConfig) -> None:
        super().__init__()
        width = config.channels
        self.down = nn.Sequential(
            ReflectPad(3), NormedConv2d(in_channels, width, 7),
            NormActPad(width, "instance", padding=1),
            NormedConv2d(width, 2 * width, 4, stride=2),
            NormActPad(2 * width, "instance", padding=1),
            NormedConv2d(2 * width, 4 * width, 4, stride=2),
            NormActPad(4 * width, "instance"),
        )  # fmt: skip
        self.trunk = nn.Sequential(
            *(ResidualBlock(4 * width, "instance", dropout=0) for _ in range(config.blocks))
        )
        init_weights(self, "kaiming")

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] in [-1, 1] to a content code [B, 4 channels, H / 4, W / 4]."""
        return self.trunk(self.down(image))


class MunitStyleEncoder(nn.Module):
    """Encode the style of images: c7s1-64, d128, d256, d256, d256, global average, 1x1 convolution.

    It has no norms, which would remove the channels' means and deviations, and so the style.
    """

    multiple = ContentEncoder.multiple  # both encode the same images
    minimum = 16  # the last of four downsamplings reflects one pixel

    def __init__(self, in_channels: int, config: StyledConfig) -> None:
        super().__init__()
        width = config.channels
        layers: list[nn.Module] = [ReflectPad(3), nn.Conv2d(in_channels, width, 7), nn.ReLU()]
        for wide_in, wide_out in ((1, 2), (2, 4), (4, 4), (4, 4)):
            layers += [
                ReflectPad(1),
                nn.Conv2d(wide_in * width, wide_out * width, 4, 2),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.out = nn.Conv2d(4 * width, config.style_dim, 1)
        init_weights(self, "kaiming")

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] in [-1, 1], sides of at least 16, to styles [B, style_dim]."""
        return self.out(self.body(image).mean(dim=(2, 3), keepdim=True)).flatten(1)


class Decoder(nn.Module):
    """Decode a content code to an image: R256 x blocks, u128, u64, c7s1-3, tanh.

    u is nearest-neighbour upsampling, a 5x5 convolution and a layer norm.
    """

    def __init__(self, out_channels: int, config: AutoencoderConfig) -> None:
        super().__init__()
        width = config.channels
        self.trunk = nn.Sequential(
            *(ResidualBlock(4 * width, "instance", dropout=0) for _ in range(config.blocks))
        )
        self.up = _up(out_channels, width)
        init_weights(self, "kaiming")

    def forward(self, content: Tensor) -> Tensor:
        """Map content [B, 4 channels, h, w] to images [B, out_channels, 4 h, 4 w] in (-1, 1)."""
        return self.up(self.trunk(content))


class StyledDecoder(nn.Module):
    """Decode a content code in a style, which sets the norms' means and deviations.

    The layers are those of `Decoder`; an MLP maps the style to the parameters of the norms.
    """

    def __init__(self, out_channels: int, config: StyledConfig) -> None:
        super().__init__()
        width, hidden = config.channels, config.style_width
        self.trunk = nn.ModuleList(MunitAdaINBlock(4 * width) for _ in range(config.blocks))
        self.up = _up(out_channels, width)
        self.mlp = nn.Sequential(
            nn.Linear(config.style_dim, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, config.blocks * MunitAdaINBlock.NORMS * 2 * 4 * width),
        )  # fmt: skip
        init_weights(self, "kaiming")

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """Map content [B, 4 channels, h, w] and styles [B, style_dim] to images of 4 h x 4 w."""
        x = content
        parameters = self.mlp(style).chunk(len(self.trunk), dim=1)
        for block, own in zip(self.trunk, parameters, strict=True):
            x = block(x, own.chunk(MunitAdaINBlock.NORMS, dim=1))
        return self.up(x)


class MunitAdaINBlock(nn.Module):
    """A residual block with adaptive instance norms, and no activation after the sum."""

    NORMS = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad = ReflectPad(1)
        self.first = Conv3x3(channels, channels)
        self.second = Conv3x3(channels, channels)

    def forward(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Map [B, C, H, W] to the same size; `parameters` are [B, 2 C] for each norm."""
        first, second = parameters
        hidden = F.relu(adaptive_instance_norm(self.first(self.pad(x)), first))
        return x + adaptive_instance_norm(self.second(self.pad(hidden)), second)


def adaptive_instance_norm(x: Tensor, parameters: Tensor) -> Tensor:
    """Give every channel of every image [B, C, H, W] a mean and a deviation from [B, 2 C].

    The first half are the means, the second the deviations; both are used as they are, without an
    offset (Huang & Belongie 2017, arXiv:1703.06868, Eq. 8).
    """
    mean, std = parameters[:, :, None, None].chunk(2, dim=1)
    return instance_norm_act_pad(x, None, slope=1.0, padding=0) * std + mean


def _up(out_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), ReflectPad(2),
        nn.Conv2d(4 * width, 2 * width, 5), LayerNorm(2 * width), nn.ReLU(),
        nn.Upsample(scale_factor=2, mode="nearest"), ReflectPad(2),
        nn.Conv2d(2 * width, width, 5), LayerNorm(width), nn.ReLU(),
        ReflectPad(3), nn.Conv2d(width, out_channels, 7), nn.Tanh(),
    )  # fmt: skip
