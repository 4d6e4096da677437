"""The U-Net generator of pix2pix (Isola et al. 2017, arXiv:1611.07004, Sec. 6.1)."""

import torch
from torch import Tensor, nn

from models.networks.generators.generator_config import GeneratorConfig
from models.networks.layers.initialization import init_weights
from models.networks.layers.norm_act_pad import Norm, NormActPad, bias_before


class UnetGenerator(nn.Module):
    """Downsample `num_downs` times and upsample as often, with a skip connection at every size.

    The encoder is C64-C128-C256-C512-..., at most 512 wide, and the decoder mirrors it. num_downs=8
    is the authors' unet_256, 7 their unet_128. Sizes must be multiples of 2^num_downs.
    """

    def __init__(self, in_channels: int, out_channels: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.in_channels, self.out_channels = in_channels, out_channels
        self.multiple = self.minimum = 2**config.num_downs
        widths = [config.channels * min(2**level, 8) for level in range(config.num_downs)]
        block: nn.Module | None = None
        for level in reversed(range(config.num_downs)):
            inner, outer = widths[level], widths[level - 1] if level else out_channels
            # Dropout follows the full-width levels above the innermost, as in the authors' code.
            dropout = config.dropout if level >= 4 and block is not None else 0.0
            below_channels = outer if level else in_channels
            block = SkipBlock(
                below_channels, inner, outer, config.norm, block, dropout, outermost=not level
            )
        assert block is not None
        self.block = block
        init_weights(self, config.init_type)

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] in [-1, 1] to [B, out_channels, H, W] in (-1, 1)."""
        return torch.tanh(self.block(image))


class SkipBlock(nn.Module):
    """One level: downsample, the levels below, upsample, concatenated with the level's input."""

    def __init__(
        self, in_channels: int, inner: int, outer: int, norm: Norm, below: nn.Module | None,
        dropout: float, outermost: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        bias = bias_before(norm)
        self.outermost = outermost
        normed_down = not outermost and below is not None
        self.down = nn.Conv2d(in_channels, inner, 4, 2, 1, bias=bias)
        self.down_norm = NormActPad(inner, norm, slope=1.0) if normed_down else None
        self.below = below
        from_below = inner if below is None else 2 * inner
        self.up = nn.ConvTranspose2d(from_below, outer, 4, 2, 1, bias=bias or outermost)
        self.up_norm = None if outermost else NormActPad(outer, norm, slope=1.0)
        self.dropout = nn.Dropout(dropout) if dropout else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, in_channels + outer, H, W].

        The outermost level maps to [B, outer, H, W].
        """
        # The authors' activation is in place, so the skip connection is activated too.
        skip = x if self.outermost else nn.functional.leaky_relu(x, 0.2)
        y = self.down(skip)
        if self.down_norm is not None:
            y = self.down_norm(y)
        if self.below is not None:
            y = self.below(y)
        y = self.up(nn.functional.relu(y))
        if self.up_norm is None:
            return y
        y = self.up_norm(y)
        if self.dropout is not None:
            y = self.dropout(y)
        return torch.cat([skip, y], dim=1)
