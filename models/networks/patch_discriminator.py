"""The PatchGAN discriminator (Isola et al. 2017, arXiv:1611.07004; CycleGAN Sec. 7.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from models.networks.blur import BlurDown
from models.networks.initialise import Initial, initialise
from models.networks.normalisation import Norm, NormActPad, NormedConv2d, bias_before


class PatchDiscriminator(nn.Module):
    """Score overlapping patches of an image: C64, C128, C256, C512, one score each 8 pixels.

    With 3 layers every score sees 70x70 pixels (1 to 5 layers: 16, 34, 70, 142, 286). As in the
    authors' code the last two convolutions have stride 1; the paper's text, which gives every layer
    stride 2, would see 94. `pixel` is the 1x1 kind, which judges every pixel on its own.
    """

    @dataclass(frozen=True)
    class Config:
        kind: Literal["patch", "pixel"] = "patch"  # pixel judges each pixel alone (1x1)
        channels: int = 64  # width of the first layer
        layers: int = 3  # 1 to 5: patches of 16, 34, 70, 142, 286 pixels
        norm: Norm = "instance"  # instance is the paper's
        antialiased: bool = False  # blur where it samples down, as CUT does
        initial: Initial = "normal"  # how weights begin; xavier is CUT's

        def __post_init__(self) -> None:
            if not 1 <= self.layers <= 5:
                raise ValueError(f"method.discriminator.layers must be 1 to 5, got {self.layers}")
            if self.channels < 1:
                raise ValueError(
                    f"method.discriminator.channels must be at least 1, got {self.channels}"
                )

    def __init__(self, in_channels: int, config: Config) -> None:
        super().__init__()
        self.config = config
        build = _pixel_layers if config.kind == "pixel" else _patch_layers
        self.body = nn.Sequential(*build(in_channels, config))
        initialise(self, config.initial)

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, C, H, W] in [-1, 1] to unbounded scores [B, 1, h, w]; see `score_size`."""
        return self.body(image)

    def score_size(self, side: int) -> int:
        """Return how many scores stand along `side` pixels; below 1 the image is too small."""
        if self.config.kind == "pixel":
            return side
        for _ in range(self.config.layers):
            side = side // 2 if self.config.antialiased else (side - 2) // 2 + 1
        return side - 2


def _patch_layers(in_channels: int, config: PatchDiscriminator.Config) -> Iterator[nn.Module]:
    width, down = config.channels, 1 if config.antialiased else 2
    yield nn.Conv2d(in_channels, width, 4, stride=down, padding=1)
    yield nn.LeakyReLU(0.2, inplace=True)
    if config.antialiased:
        yield BlurDown()
    for layer in range(1, config.layers + 1):
        inward, width = width, config.channels * min(2**layer, 8)
        stride = down if layer < config.layers else 1
        bias = bias_before(config.norm)
        yield NormedConv2d(inward, width, 4, stride=stride, padding=1, bias=bias)
        yield NormActPad(width, config.norm, slope=0.2)
        if config.antialiased and layer < config.layers:
            yield BlurDown()
    yield nn.Conv2d(width, 1, 4, stride=1, padding=1)


def _pixel_layers(in_channels: int, config: PatchDiscriminator.Config) -> Iterator[nn.Module]:
    width, bias = config.channels, bias_before(config.norm)
    yield nn.Conv2d(in_channels, width, 1)
    yield nn.LeakyReLU(0.2, inplace=True)
    yield NormedConv2d(width, 2 * width, 1, bias=bias)
    yield NormActPad(2 * width, config.norm, slope=0.2)
    yield nn.Conv2d(2 * width, 1, 1, bias=bias)
