"""The residual generator of Johnson et al. 2016 (arXiv:1603.08155) as in CycleGAN (Sec. 7.2)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.networks.generators.generator_config import GeneratorConfig
from models.networks.layers.attention import SelfAttention
from models.networks.layers.blur import BlurDown, blur_up
from models.networks.layers.initialization import init_weights
from models.networks.layers.norm_act_pad import (
    Norm,
    NormActPad,
    NormedConv2d,
    NormedUpConv2d,
    ReflectPad,
    bias_before,
)
from models.networks.layers.winograd import Conv3x3


class ResnetGenerator(nn.Module):
    """Two downsampling convolutions, `blocks` residual blocks and two upsampling ones.

    In the paper's notation: c7s1-64, d128, d256, R256 x blocks, u128, u64, c7s1-3, tanh. All layers
    but the strided ones have reflection padding. Fully convolutional; sizes must be multiples of 4.
    """

    multiple = 4  # two downsamplings
    minimum = 8  # the residual blocks reflect one pixel at a quarter of the size

    def __init__(self, in_channels: int, out_channels: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.config = config
        width, norm, bias = config.channels, config.norm, bias_before(config.norm)
        self.encoder = nn.Sequential(
            ReflectPad(3), NormedConv2d(in_channels, width, 7, bias=bias),
            NormActPad(width, norm),
            *_down(width, 2 * width, config),
            *_down(2 * width, 4 * width, config),
        )  # fmt: skip
        self.trunk = nn.Sequential(
            *(ResidualBlock(4 * width, norm, config.dropout) for _ in range(config.blocks))
        )
        self.attention = SelfAttention(4 * width) if config.attention else None
        self.decoder = nn.Sequential(
            *_up(4 * width, 2 * width, config),
            NormActPad(2 * width, norm),
            *_up(2 * width, width, config),
            NormActPad(width, norm, padding=3),
            nn.Conv2d(width, out_channels, 7), nn.Tanh(),
        )  # fmt: skip
        self.norm = norm
        self.recompute_trunk = False  # set by engine/runtime.py to save memory
        init_weights(self, config.init_type)

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] in [-1, 1] to [B, out_channels, H, W] in (-1, 1)."""
        x = self.encoder(image)
        # A batch norm would count a recomputed batch twice in its statistics.
        if self.recompute_trunk and self.norm == "instance" and torch.is_grad_enabled():
            for block in self.trunk:
                x = checkpoint(block, x, use_reentrant=False)
        else:
            x = self.trunk(x)
        return self.decoder(x if self.attention is None else self.attention(x))

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the features that a contrastive loss compares, [B, C, h, w] each.

        Park et al. 2020 (arXiv:2007.15651), App. C.2: the padded image, both downsampling
        convolutions before their norms, and the first and fifth residual block (the last one where
        there are fewer).
        """
        features, x, convolutions = [], image, 0
        for layer in self.encoder:
            convolutions += isinstance(layer, NormedConv2d)
            if isinstance(layer, NormedConv2d) and convolutions > 1:
                x = layer.with_bias(x)  # features before the norm, which would cancel the bias
                features.append(x)
            else:
                x = layer(x)
                features += [x] if isinstance(layer, ReflectPad) else []
        for index in range(max(self._feature_blocks(), default=-1) + 1):
            x = self.trunk[index](x)
            features += [x] if index in self._feature_blocks() else []
        return features

    def feature_widths(self) -> list[int]:
        """Return the channels of each tensor that `features` returns."""
        width = self.config.channels
        return [
            self.in_channels,
            2 * width,
            4 * width,
            *(4 * width for _ in self._feature_blocks()),
        ]

    def _feature_blocks(self) -> list[int]:
        """Return the indices of the residual blocks whose outputs `features` returns."""
        return sorted({0, min(4, self.config.blocks - 1)}) if self.config.blocks else []


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions added to their input, with no activation after the sum."""

    def __init__(self, channels: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        bias = bias_before(norm)
        self.pad = ReflectPad(1)
        self.first = Conv3x3(channels, channels, bias)
        # Dropout comes between the activation and the second padding.
        self.between = NormActPad(channels, norm, padding=0 if dropout else 1)
        self.dropout = nn.Sequential(nn.Dropout(dropout), ReflectPad(1)) if dropout else None
        self.second = Conv3x3(channels, channels, bias)
        self.end = NormActPad(channels, norm, slope=1.0)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.between(self.first(self.pad(x)))
        if self.dropout is not None:
            hidden = self.dropout(hidden)
        return self.end(self.second(hidden), x)


def _down(in_channels: int, out_channels: int, config: GeneratorConfig) -> Iterator[nn.Module]:
    stride = 1 if config.antialiased else 2
    bias = bias_before(config.norm)
    yield NormedConv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)
    yield NormActPad(out_channels, config.norm)
    if config.antialiased:
        yield BlurDown()


def _up(in_channels: int, out_channels: int, config: GeneratorConfig) -> Iterator[nn.Module]:
    bias = bias_before(config.norm)
    if config.antialiased:
        yield blur_up()
        yield NormedConv2d(in_channels, out_channels, 3, padding=1, bias=bias)
    elif config.upsampling == "transposed":
        yield NormedUpConv2d(in_channels, out_channels, bias)
    else:  # Odena et al. 2016, "Deconvolution and Checkerboard Artifacts"
        yield nn.Upsample(scale_factor=2, mode="nearest")
        yield ReflectPad(1)
        yield Conv3x3(in_channels, out_channels, bias)


def forward_concatenated(generator: nn.Module, *images: Tensor) -> tuple[Tensor, ...]:
    """Run several batches through one generator in a single forward; return one output per batch.

    Images must have equal sizes. The outputs equal those of separate forwards, since samples are
    independent with instance norm; with batch norm the batches are run one after another.
    """
    if any(isinstance(module, nn.BatchNorm2d) for module in generator.modules()):
        return tuple(generator(image) for image in images)
    return generator(torch.cat(images)).split([len(image) for image in images])
