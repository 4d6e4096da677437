"""Feature maps of a picture whose rows are computed on demand."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.tensors import normalize
from models.networks.layers.blur import blur_down
from models.networks.layers.norm_act_pad import NormActPad
from models.networks.layers.op_backends import EPSILON

BYTES_PER_VALUE = 4  # float32


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel, [1, C, 1, 1]."""

    mean: Tensor
    variance: Tensor


class LazyFeatureMap:
    """Features [C, H, W] whose rows are computed on demand."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.channels = channels
        self.height = height
        self.width = width

    def rows(self, first: int, last: int) -> Tensor:
        """Return the rows first to last - 1 as [1, C, last - first, W]."""
        raise NotImplementedError


class PictureMap(LazyFeatureMap):
    """A uint8 picture [H, W, C]; its rows are in [-1, 1], on the device."""

    def __init__(self, pixels: np.ndarray, device: torch.device) -> None:
        super().__init__(pixels.shape[2], pixels.shape[0], pixels.shape[1])
        self.pixels = pixels
        self.device = device

    def rows(self, first: int, last: int) -> Tensor:
        rows = torch.from_numpy(self.pixels[first:last].transpose(2, 0, 1).copy())
        return normalize(rows[None].to(self.device))


class StoredMap(LazyFeatureMap):
    """Features that are computed once and stored in a temporary file, row after row."""

    def __init__(self, channels: int, height: int, width: int, device: torch.device) -> None:
        super().__init__(channels, height, width)
        self.device = device
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the map)

    def write(self, first: int, rows: Tensor) -> None:
        """Store the rows [1, C, n, W] from row number `first` on; OSError if the disk is full."""
        self.file.seek(first * self.channels * self.width * BYTES_PER_VALUE)
        self.file.write(rows[0].float().transpose(0, 1).contiguous().cpu().numpy().data)

    def rows(self, first: int, last: int) -> Tensor:
        rows = torch.empty(last - first, self.channels, self.width)
        self.file.seek(first * self.channels * self.width * BYTES_PER_VALUE)
        self.file.readinto(rows.numpy().data)
        return rows.transpose(0, 1).contiguous()[None].to(self.device)


class Padded(LazyFeatureMap):
    """Reflection padding on all sides."""

    def __init__(self, source: LazyFeatureMap, padding: int) -> None:
        super().__init__(source.channels, source.height + 2 * padding, source.width + 2 * padding)
        self.source = source
        self.padding = padding

    def rows(self, first: int, last: int) -> Tensor:
        bottom = self.source.height - 1
        indices = np.arange(first - self.padding, last - self.padding)
        indices = bottom - abs(bottom - abs(indices))
        low, high = int(indices.min()), int(indices.max())
        x = self.source.rows(low, high + 1)
        if len(indices) != high + 1 - low or (np.diff(indices) != 1).any():
            x = x.index_select(2, torch.from_numpy(indices - low).to(x.device))
        return F.pad(x, (self.padding, self.padding, 0, 0), mode="reflect")


class Convolved(LazyFeatureMap):
    """A convolution with the zero padding of its layer."""

    def __init__(self, source: LazyFeatureMap, layer: nn.Conv2d) -> None:
        self.kernel, self.stride = int(layer.kernel_size[0]), int(layer.stride[0])
        self.padding = int(layer.padding[0])
        height, width = (
            (side + 2 * self.padding - self.kernel) // self.stride + 1
            for side in (source.height, source.width)
        )
        super().__init__(layer.out_channels, height, width)
        self.source = source
        self.layer = layer

    def rows(self, first: int, last: int) -> Tensor:
        low = first * self.stride - self.padding
        high = (last - 1) * self.stride - self.padding + self.kernel
        x = self.source.rows(max(low, 0), min(high, self.source.height))
        above, below = max(-low, 0), max(high - self.source.height, 0)
        x = F.pad(x, (0, 0, above, below)) if above or below else x
        layer = self.layer
        return F.conv2d(x, layer.weight, layer.bias, self.stride, (0, self.padding))


class Upconvolved(LazyFeatureMap):
    """The generator's transposed convolution: 3x3, stride 2, twice the size."""

    def __init__(self, source: LazyFeatureMap, layer: nn.ConvTranspose2d) -> None:
        assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (2, 2), (1, 1))
        super().__init__(layer.out_channels, 2 * source.height, 2 * source.width)
        self.source = source
        self.layer = layer

    def rows(self, first: int, last: int) -> Tensor:
        # Row r depends on the source's rows (r - 1) / 2 to (r + 1) / 2.
        low, high = first // 2, min(last // 2, self.source.height - 1)
        x = self.source.rows(low, high + 1)
        layer = self.layer
        y = F.conv_transpose2d(
            x, layer.weight, layer.bias, 2, padding=(0, 1), output_padding=(0, 1)
        )
        return y[:, :, first - 2 * low + 1 : last - 2 * low + 1]


class Upsampled(LazyFeatureMap):
    """Nearest-neighbour upsampling to twice the size."""

    def __init__(self, source: LazyFeatureMap) -> None:
        super().__init__(source.channels, 2 * source.height, 2 * source.width)
        self.source = source

    def rows(self, first: int, last: int) -> Tensor:
        low = first // 2
        x = self.source.rows(low, (last - 1) // 2 + 1)
        y = F.interpolate(x, scale_factor=2, mode="nearest")
        return y[:, :, first - 2 * low : last - 2 * low]


class Interpolated(LazyFeatureMap):
    """Bilinear upsampling to twice the size (align_corners=False)."""

    def __init__(self, source: LazyFeatureMap) -> None:
        super().__init__(source.channels, 2 * source.height, 2 * source.width)
        self.source = source

    def rows(self, first: int, last: int) -> Tensor:
        # A row is between two of the source; with one more on each side, no row is at an edge of x.
        low, high = max(first // 2 - 1, 0), min((last - 1) // 2 + 1, self.source.height - 1)
        x = self.source.rows(low, high + 1)
        y = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return y[:, :, first - 2 * low : last - 2 * low]


class Blurred(LazyFeatureMap):
    """The layer `BlurDown`: blurring, then downsampling to half the size."""

    def __init__(self, source: LazyFeatureMap) -> None:
        super().__init__(source.channels, (source.height + 1) // 2, (source.width + 1) // 2)
        self.pad = Padded(source, 1)

    def rows(self, first: int, last: int) -> Tensor:
        return blur_down(self.pad.rows(2 * first, 2 * last + 1))


class Normed(LazyFeatureMap):
    """A norm with known statistics, followed by the shortcut or activation of its layer."""

    def __init__(
        self,
        source: LazyFeatureMap,
        layer: NormActPad,
        moments: Moments,
        shortcut: LazyFeatureMap | None = None,
    ) -> None:
        super().__init__(source.channels, source.height, source.width)
        self.source = source
        self.layer = layer
        self.moments = moments
        self.shortcut = shortcut

    def rows(self, first: int, last: int) -> Tensor:
        x = self.source.rows(first, last).float()
        if self.layer.batch_norm is not None:
            x = self.layer.batch_norm(x)
        else:
            x = (x - self.moments.mean) * torch.rsqrt(self.moments.variance + EPSILON)
        if self.shortcut is not None:
            x = x + self.shortcut.rows(first, last)
        return x if self.layer.slope == 1.0 else F.leaky_relu(x, self.layer.slope)


class Applied(LazyFeatureMap):
    """A function applied to each value."""

    def __init__(self, source: LazyFeatureMap, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(source.channels, source.height, source.width)
        self.source = source
        self.function = function

    def rows(self, first: int, last: int) -> Tensor:
        return self.function(self.source.rows(first, last))
