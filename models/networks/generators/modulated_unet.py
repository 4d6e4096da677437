"""The generator of UVCGAN v2, a U-Net around a transformer.

Torbunov et al. 2023 (arXiv:2303.16280).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.layers.initialization import InitType, init_weights
from models.networks.layers.token_transformer import TokenTransformer

SLOPE = 0.01  # of every leaky ReLU here, the authors' choice


class ModulatedUnet(nn.Module):
    """A U-Net with a transformer at its bottleneck, whose extra token modulates the decoder.

    It uses modulated convolutions instead of norms: the token scales the inputs of the decoder's
    3x3 convolutions, and their outputs are scaled back to unit variance (StyleGAN 2, Karras et al.
    2020, arXiv:1912.04958, Sec. 2.2). Inside, images are in [0, 1], as in the authors' code. Sizes
    must be multiples of `multiple`.
    """

    @dataclass(frozen=True)
    class Config:
        channels: int = 48  # width of the first level; each level doubles it
        levels: int = 4  # downsamplings: 48, 96, 192, 384 channels with 4
        blocks: int = 12  # transformer blocks
        embed_dim: int = 384  # width of a token; a multiple of num_heads
        num_heads: int = 6  # attention heads
        mlp_ratio: int = 4  # hidden width of the MLP, in multiples of embed_dim
        init_type: InitType = "normal"  # initial weights

        def __post_init__(self) -> None:
            for option in ("channels", "levels", "embed_dim", "num_heads", "mlp_ratio"):
                if getattr(self, option) < 1:
                    raise ValueError(
                        f"method.generator.{option} must be at least 1, got {getattr(self, option)}"
                    )
            if self.levels > 10:
                raise ValueError(f"method.generator.levels must be at most 10, got {self.levels}")
            if self.blocks < 0:
                raise ValueError(f"method.generator.blocks must be 0 or more, got {self.blocks}")
            if self.embed_dim % self.num_heads:
                raise ValueError(
                    f"method.generator.embed_dim={self.embed_dim} must be a multiple of "
                    f"method.generator.num_heads={self.num_heads}"
                )

    def __init__(self, in_channels: int, out_channels: int, config: Config) -> None:
        super().__init__()
        self.config = config
        self.in_channels, self.out_channels = in_channels, out_channels
        self.multiple = 2**config.levels
        self.minimum = 2 * self.multiple  # positions run between two ends, so a side needs 2 tokens
        widths = [config.channels * 2**level for level in range(config.levels)]
        above = [widths[0], *widths[:-1]]
        self.entry = nn.Sequential(*_conv_activation(in_channels, widths[0]))
        self.down = nn.ModuleList(
            nn.Sequential(*_conv_activation(outer, inner), *_conv_activation(inner, inner))
            for outer, inner in zip(above, widths, strict=True)
        )
        self.halve = nn.ModuleList(nn.Conv2d(width, width, 2, stride=2) for width in widths)
        self.transformer = TokenTransformer(
            widths[-1], config.embed_dim, config.num_heads, config.blocks, config.mlp_ratio
        )
        self.up = nn.ModuleList(
            UpLevel(inner, outer, config.embed_dim)
            for outer, inner in zip(above, widths, strict=True)
        )
        self.exit = nn.Conv2d(widths[0], out_channels, 1)
        init_weights(self, config.init_type)
        self.transformer.init_attention()

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] in [-1, 1] to [B, out_channels, H, W] in (-1, 1)."""
        x = self.entry((image + 1) / 2)
        skips = []
        for block, halve in zip(self.down, self.halve, strict=True):
            skips.append(block(x))
            x = halve(skips[-1])
        x, style = self.transformer(x)
        for level, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = level(x, skip, style)
        # tanh(x / 2) = 2 sigmoid(x) - 1: the paper's output, scaled from [0, 1] to [-1, 1].
        return torch.tanh(self.exit(x) / 2)


class UpLevel(nn.Module):
    """Upsample, concatenate the skip connection, and apply two modulated convolutions."""

    def __init__(self, inner: int, outer: int, style_width: int) -> None:
        super().__init__()
        self.enlarge = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(inner, inner, 3, padding=1)
        )
        self.first = ModulatedConvolution(2 * inner, inner, style_width)
        self.second = ModulatedConvolution(inner, outer, style_width)

    def forward(self, x: Tensor, skip: Tensor, style: Tensor) -> Tensor:
        """Map [B, inner, h, w], [B, inner, 2h, 2w] and styles [B, S] to [B, outer, 2h, 2w]."""
        x = torch.cat([self.enlarge(x), skip], dim=1)
        return self.second(self.first(x, style), style)


class ModulatedConvolution(nn.Module):
    """A 3x3 convolution whose weights a style scales and whose outputs keep unit variance.

    Scaling the input channels equals scaling the weights (StyleGAN 2, Eq. 1). The outputs, bias
    included as in the authors' code, are divided by the standard deviation that unit-variance
    inputs would give (Eq. 3). The style's strength starts at 0: every channel is scaled by 1.
    """

    EPSILON = 1e-6

    def __init__(self, in_channels: int, out_channels: int, style_width: int) -> None:
        super().__init__()
        self.style = nn.Linear(style_width, in_channels)
        self.strength = nn.Parameter(torch.zeros(1))
        self.convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] and styles [B, S] to [B, out_channels, H, W], activated."""
        scale = (1 + self.strength * self.style(style)).float()
        squared = self.convolution.weight.float().square().sum(dim=(2, 3))
        variance = (scale.square()[:, None] * squared).sum(dim=2)
        demodulation = torch.rsqrt(variance + self.EPSILON)[:, :, None, None]  # Eq. 3
        x = self.convolution(x * scale[:, :, None, None].to(x.dtype))  # Eq. 1
        return nn.functional.leaky_relu(x * demodulation.to(x.dtype), SLOPE)


def _conv_activation(in_channels: int, out_channels: int) -> Iterator[nn.Module]:
    yield nn.Conv2d(in_channels, out_channels, 3, padding=1)
    yield nn.LeakyReLU(SLOPE, inplace=True)
