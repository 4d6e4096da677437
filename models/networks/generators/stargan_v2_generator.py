"""The generator of StarGAN v2 (Choi et al. 2020, arXiv:1912.01865, Table 5)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers.initialization import init_weights
from models.networks.layers.stargan_v2_blocks import (
    SLOPE,
    StarGANv2AdaINBlock,
    StarGANv2ResidualBlock,
)


class StyleGenerator(nn.Module):
    """Downsample an image `layers` times and decode it in a style: one network for all domains.

    Fully convolutional; sizes must be multiples of `multiple`. The output is not bounded.
    """

    HIGH_PASS_LEVELS = (1, 2, 3)  # downsamplings before the skips: 128, 64, 32 of 256 pixels

    @dataclass(frozen=True)
    class Config:
        channels: int = 64  # width of the first layer; the paper's is 16384 / method.size
        max_channels: int = 512  # each downsampling doubles the channels, up to this
        layers: int = 4  # downsamplings: 256 to 16 pixels; high_pass adds one
        blocks: int = 2  # residual blocks at the bottleneck, in encoder and decoder each
        high_pass: float = 0.0  # high-pass skips over N (w_hpf): 1 for faces; 0 disables

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
        self.minimum = 2 * self.multiple  # an instance norm would set a single pixel to 0
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
        bottleneck = range(config.blocks)
        self.encoder = nn.ModuleList([
            *down,
            *(StarGANv2ResidualBlock(width, width, normed=True, downsample=False)
              for _ in bottleneck),
        ])  # fmt: skip
        self.decoder = nn.ModuleList([
            *(StarGANv2AdaINBlock(width, width, style_dim, upsample=False, residual=residual)
              for _ in bottleneck),
            *reversed(up),
        ])  # fmt: skip
        self.last = nn.Sequential(
            nn.InstanceNorm2d(config.channels, affine=True), nn.LeakyReLU(SLOPE),
            nn.Conv2d(config.channels, image_channels, 1),
        )  # fmt: skip
        init_weights(self, "kaiming")

    def forward(self, image: Tensor, style: Tensor) -> Tensor:
        """Map [B, C, H, W] in [-1, 1] to [B, C, H, W] in about the same range.

        `style` is [B, style_dim], or [B, len(decoder), style_dim]: one per block, coarsest first.
        """
        per_block = style.unbind(1) if style.ndim == 3 else [style] * len(self.decoder)
        x = self.first(image)
        encoded = []  # the input of every encoder block
        for block in self.encoder:
            encoded.append(x)
            x = block(x)
        for index, (block, block_style) in enumerate(zip(self.decoder, per_block, strict=True)):
            x = block(x, block_style)
            level = len(self.decoder) - 1 - index  # downsamplings at this block's output
            if self.config.high_pass and level in self.HIGH_PASS_LEVELS and level < self.num_downs:
                x = x + high_passed(encoded[level]) / self.config.high_pass
        return self.last(x)


def high_passed(x: Tensor) -> Tensor:
    """Return 8 times each pixel minus its 8 neighbours, with zero padding (a Laplacian filter)."""
    return 9 * (x - F.avg_pool2d(x, 3, stride=1, padding=1))
