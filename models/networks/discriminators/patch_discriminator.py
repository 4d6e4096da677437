"""The PatchGAN discriminator (Isola et al. 2017, arXiv:1611.07004; CycleGAN Sec. 7.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models.networks.layers.blur import BlurDown
from models.networks.layers.initialization import CONVOLUTIONS, InitType, init_weights
from models.networks.layers.norm_act_pad import NormActPad, NormedConv2d, bias_before

DiscriminatorNorm = Literal["instance", "batch", "none"]


class PatchDiscriminator(nn.Module):
    """Score overlapping patches of an image: C64, C128, C256, C512, one score every 8 pixels.

    With 3 layers the receptive field is 70x70 pixels (1 to 5 layers: 16, 34, 70, 142, 286). As in
    the authors' code the last two convolutions have stride 1; with stride 2 in every layer, as in
    the paper's text, it would be 94. The `pixel` kind has 1x1 convolutions and scores every pixel
    on its own.
    """

    @dataclass(frozen=True)
    class Config:
        kind: Literal["patch", "pixel"] = "patch"  # patch, or pixel: scores each pixel alone (1x1)
        channels: int = 64  # width of the first layer
        layers: int = 3  # 1 to 5: patches of 16, 34, 70, 142, 286 pixels
        norm: DiscriminatorNorm = "instance"  # instance is that of CycleGAN
        antialiased: bool = False  # blur when downsampling, as CUT does
        init_type: InitType = "normal"  # initial weights; xavier is CUT's
        scales: int = 1  # networks, each at half the resolution of the one before
        spectral: bool = False  # spectral norm: every layer's largest singular value is 1

        def __post_init__(self) -> None:
            if not 1 <= self.layers <= 5:
                raise ValueError(f"method.discriminator.layers must be 1 to 5, got {self.layers}")
            if not 1 <= self.scales <= 5:
                raise ValueError(f"method.discriminator.scales must be 1 to 5, got {self.scales}")
            if self.kind == "pixel" and self.antialiased:
                raise ValueError(
                    "method.discriminator.antialiased blurs when downsampling, which kind=pixel "
                    "does not do; leave it out, or set method.discriminator.kind=patch"
                )
            if self.channels < 1:
                raise ValueError(
                    f"method.discriminator.channels must be at least 1, got {self.channels}"
                )

    def __init__(self, in_channels: int, config: Config) -> None:
        super().__init__()
        self.config = config
        build = _pixel_layers if config.kind == "pixel" else _patch_layers
        self.body = nn.Sequential(*build(in_channels, config))
        if config.scales > 1:  # Wang et al. 2018, arXiv:1711.11585, Sec. 3.2
            self.coarser = nn.ModuleList(
                nn.Sequential(*build(in_channels, config)) for _ in range(config.scales - 1)
            )
        init_weights(self, config.init_type)
        if config.spectral:
            apply_spectral_norm(self)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Map [B, C, H, W] in [-1, 1] to unbounded scores [B, 1, h, w]; see `score_size`.

        With several scales the result is a list of score maps, finest first.
        """
        if self.config.scales == 1:
            return self.body(image)
        return [
            body(x)
            for body, x in zip(
                [self.body, *self.coarser], pyramid(image, self.config.scales), strict=True
            )
        ]

    def score_size(self, side: int) -> int:
        """Return the number of scores along `side` pixels; below 1 the image is too small.

        With several scales it is the coarsest scale's number.
        """
        for _ in range(self.config.scales - 1):
            side = (side - 1) // 2 + 1
        if self.config.kind == "pixel":
            return side
        for _ in range(self.config.layers):
            side = side // 2 if self.config.antialiased else (side - 2) // 2 + 1
        return side - 2


def pyramid(image: Tensor, scales: int) -> list[Tensor]:
    """Return [B, C, H, W] at scales 1, 1/2, 1/4 ..., each 3x3-averaged from the one before."""
    images = [image]
    while len(images) < scales:
        images.append(F.avg_pool2d(images[-1], 3, 2, 1, count_include_pad=False))
    return images


def apply_spectral_norm(network: nn.Module) -> None:
    """Divide every layer's weights by their largest singular value (Miyato et al. 2018, Eq. 8).

    One power iteration per forward tracks it; its vectors are part of the state dict.
    """
    for layer in network.modules():
        if isinstance(layer, CONVOLUTIONS):
            spectral_norm(layer)


def _patch_layers(in_channels: int, config: PatchDiscriminator.Config) -> Iterator[nn.Module]:
    width, down = config.channels, 1 if config.antialiased else 2
    yield nn.Conv2d(in_channels, width, 4, stride=down, padding=1)
    yield nn.LeakyReLU(0.2, inplace=True)
    if config.antialiased:
        yield BlurDown()
    for layer in range(1, config.layers + 1):
        in_channels, width = width, config.channels * min(2**layer, 8)
        stride = down if layer < config.layers else 1
        yield from _layer(in_channels, width, (4, stride, 1), config.norm)
        if config.antialiased and layer < config.layers:
            yield BlurDown()
    yield nn.Conv2d(width, 1, 4, stride=1, padding=1)


def _pixel_layers(in_channels: int, config: PatchDiscriminator.Config) -> Iterator[nn.Module]:
    width = config.channels
    yield nn.Conv2d(in_channels, width, 1)
    yield nn.LeakyReLU(0.2, inplace=True)
    yield from _layer(width, 2 * width, (1, 1, 0), config.norm)
    yield nn.Conv2d(2 * width, 1, 1, bias=config.norm == "none" or bias_before(config.norm))


def _layer(
    in_channels: int, width: int, shape: tuple[int, int, int], norm: DiscriminatorNorm
) -> Iterator[nn.Module]:
    """Yield a convolution of `shape` (kernel, stride, padding), its norm if any, a leaky ReLU."""
    if norm == "none":
        yield nn.Conv2d(in_channels, width, *shape)
        yield nn.LeakyReLU(0.2, inplace=True)
    else:
        yield NormedConv2d(in_channels, width, *shape, bias=bias_before(norm))
        yield NormActPad(width, norm, slope=0.2)
