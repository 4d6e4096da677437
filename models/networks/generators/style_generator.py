"""The generator of StarGAN v2 (Choi et al. 2020, arXiv:1912.01865, Table 5)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers.initialization import init_weights
from models.networks.layers.styled_blocks import SLOPE, StarGANv2AdaINBlock, StarGANv2ResidualBlock


class StyleGenerator(nn.Module):
    """Halve an image `layers` times, and render it back in a style: one network for all domains.

    Fully convolutional; sizes must be multiples of `multiple`. The output is not bounded.
    """

    SKIPPED = (1, 2, 3)  # halvings after which features are high-passed: 128, 64, 32 of 256 pixels

    @dataclass(frozen=True)
    class Config:
        channels: int = 64  # width of the first layer; the paper's is 16384 / method.size
        max_channels: int = 512  # each downsampling doubles the channels, up to this
        layers: int = 4  # halvings, to 16 pixels of 256; high_pass adds one
        blocks: int = 2  # residual blocks in the middle that keep the size, either way
        high_pass: float = 0.0  # carry edges past the middle, over this: 1 keeps faces; 0 is off

        def __post_init__(self) -> None:
            for option in ("channels", "max_channels", "layers", "blocks"):
                if getattr(self, option) < 1:
                    raise ValueError(
                        f"method.generator.{option} must be at least 1, got {getattr(self, option)}"
                    )
            if self.high_pass < 0:
                raise ValueError(
                    f"method.generator.high_pass must be 0 or more, got {self.high_pass}"
                )

    def __init__(self, image_channels: int, style_dim: int, config: Config) -> None:
        super().__init__()
        self.config = config
        self.num_downs = config.layers + (config.high_pass > 0)
        self.multiple = 2**self.num_downs
        self.minimum = 2 * self.multiple  # a norm of a single pixel would leave nothing of it
        residual = config.high_pass == 0
        width = config.channels
        self.first = nn.Conv2d(image_channels, width, 3, padding=1)
        down, up = [], []
        for _ in range(self.num_downs):
            wider = min(2 * width, config.max_channels)
            down.append(StarGANv2ResidualBlock(width, wider, normed=True, downsample=True))
            up.append(
                StarGANv2AdaINBlock(wider, width, style_dim, upsample=True, residual=residual)
            )
            width = wider
        middle = range(config.blocks)
        self.encoder = nn.ModuleList(
            [
                *down,
                *(
                    StarGANv2ResidualBlock(width, width, normed=True, downsample=False)
                    for _ in middle
                ),
            ]
        )
        self.decoder = nn.ModuleList([
            *(StarGANv2AdaINBlock(width, width, style_dim, upsample=False, residual=residual) for _ in middle),
            *reversed(up),
        ])  # fmt: skip
        self.last = nn.Sequential(
            nn.InstanceNorm2d(config.channels, affine=True), nn.LeakyReLU(SLOPE),
            nn.Conv2d(config.channels, image_channels, 1),
        )  # fmt: skip
        init_weights(self, "kaiming")

    def forward(self, image: Tensor, style: Tensor) -> Tensor:
        """Map [B, C, H, W] in [-1, 1] to [B, C, H, W], about as large.

        `style` is [B, style_dim], or [B, len(decoder), style_dim]: one a block, the coarsest first.
        """
        per_block = style.unbind(1) if style.ndim == 3 else [style] * len(self.decoder)
        x = self.first(image)
        before = []  # each halving
        for block in self.encoder:
            before.append(x)
            x = block(x)
        for number, (block, own) in enumerate(zip(self.decoder, per_block, strict=True)):
            x = block(x, own)
            halved = len(self.decoder) - 1 - number  # how often, seen from the image
            if self.config.high_pass and halved in self.SKIPPED and halved < self.num_downs:
                x = x + high_passed(before[halved]) / self.config.high_pass
        return self.last(x)


def high_passed(x: Tensor) -> Tensor:
    """Return what differs from its neighbours: 8 times each pixel less the 8 around it, zeros outside."""
    return 9 * (x - F.avg_pool2d(x, 3, stride=1, padding=1))
