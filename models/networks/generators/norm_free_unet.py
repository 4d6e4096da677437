"""A U-Net after Ronneberger et al. 2015, with skip connections at every size and without norms."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.generators.generator_config import GeneratorConfig
from models.networks.layers.initialization import init_weights

SLOPE = 0.2  # of the leaky ReLUs


class NormFreeUnet(nn.Module):
    """An encoder and a decoder with two 3x3 convolutions at every size.

    Ronneberger et al. 2015 (arXiv:1505.04597), but with padded convolutions, average pooling,
    nearest-neighbour upsampling and leaky ReLUs.

    The first convolution of pix2pix's U-Net already halves the size, so all its changes pass
    through a map of half the size. Here a skip connection at full size lets it draw lines of one
    pixel. The widths are those of the ResNet: `channels`, then 2 and 4 times as many. Sizes must be
    multiples of 2^num_downs.
    """

    def __init__(self, in_channels: int, out_channels: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.in_channels, self.out_channels = in_channels, out_channels
        self.multiple = self.minimum = 2**config.num_downs
        widths = [config.channels * min(2**level, 4) for level in range(config.num_downs + 1)]
        self.down = nn.ModuleList(
            nn.Sequential(*_two_convs(narrow, width))
            for narrow, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(*_two_convs(below + width, width))
            for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.end = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        init_weights(self, config.init_type)

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, C, H, W] in [-1, 1] to [B, out_channels, H, W] in (-1, 1)."""
        x, skips = image, []
        for level, down in enumerate(self.down):
            x = down(F.avg_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()  # the innermost one is x itself
        for up in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = up(torch.cat([x, skips.pop()], dim=1))
        return torch.tanh(self.end(x))


def _two_convs(in_channels: int, width: int) -> Iterator[nn.Module]:
    for channels in (in_channels, width):
        yield nn.Conv2d(channels, width, 3, padding=1)
        yield nn.LeakyReLU(SLOPE, inplace=True)
