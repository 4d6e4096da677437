"""Translate a picture in strips, with the result of the whole frame and the memory of a strip.

An instance norm takes mean and variance over the whole picture, so pieces of a picture cannot be
translated one by one: they would differ, and their seams would show. Here each layer is a map whose
rows are computed when somebody asks for them. The statistics of a norm are collected in one pass over
all rows before anything behind it is computed. Encoder and decoder are computed again for each of
their norms, which is cheap; the residual blocks, which are the work, keep their maps in a temporary
file, so nothing of them is computed twice.
"""

import contextlib
import resource
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.loading import denormalise, normalise
from errors import RunError
from models.networks.normalisation import EPSILON, NormActPad, ReflectPad
from models.networks.resnet_generator import ResidualBlock, ResnetGenerator
from models.translator import Translator

Report = Callable[[float], None]
"""Told the share that is done, 0 to 1."""


BYTES_A_VALUE = 4
MAPS_AT_ONCE = 6  # as large as the widest layer, that a forward of the whole frame holds
SHARE = 0.6  # of the free memory that one picture may take


def strips_for(translator: Translator, tile: str, pixels: np.ndarray, device: torch.device) -> int:
    """Return how many features a strip has, or 0 where the whole frame is translated at once.

    `tile` is "auto", "off" or the side of a square of as many pixels as a strip has.
    """
    generator = getattr(translator, "generator", None)
    if tile == "off" or not isinstance(generator, ResnetGenerator):
        return 0
    width = int(generator.encoder[1].out_channels)  # pyright: ignore[reportArgumentType]
    if tile != "auto":
        return int(tile) ** 2 * width
    needed = pixels.shape[0] * pixels.shape[1] * width * BYTES_A_VALUE * MAPS_AT_ONCE
    free = free_memory(device) * SHARE
    if needed <= free:
        return 0
    smallest, largest = 64**2 * width, 1024**2 * width
    return int(min(max(free / (BYTES_A_VALUE * 4 * MAPS_AT_ONCE), smallest), largest))


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process may still take: of the device, or of machine and limits."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [2**40]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [1024 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable")]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{x}").read_text() for x in ("max", "current"))
        found.append(int(limit) - int(used))
    with contextlib.suppress(OSError, ValueError, IndexError):
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        found += [limit - taken] if limit != resource.RLIM_INFINITY else []
    return max(min(found), 0)


class Map:
    """Features [C, H, W] of which any rows can be asked for."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.channels = channels
        self.height = height
        self.width = width

    def rows(self, first: int, last: int) -> Tensor:
        """Return rows first .. last - 1 as [1, C, last - first, W]."""
        raise NotImplementedError


class PictureMap(Map):
    """The rows of a uint8 picture [H, W, C], in [-1, 1] on the device."""

    def __init__(self, pixels: np.ndarray, device: torch.device) -> None:
        super().__init__(pixels.shape[2], pixels.shape[0], pixels.shape[1])
        self.pixels = pixels
        self.device = device

    def rows(self, first: int, last: int) -> Tensor:
        rows = torch.from_numpy(self.pixels[first:last].transpose(2, 0, 1).copy())
        return normalise(rows[None].to(self.device))


class StoredMap(Map):
    """Rows that were computed once and lie in a temporary file, one after the other."""

    def __init__(self, channels: int, height: int, width: int, device: torch.device) -> None:
        super().__init__(channels, height, width)
        self.device = device
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the map)

    def write(self, first: int, rows: Tensor) -> None:
        """Put [1, C, n, W] in its place."""
        self.file.seek(first * self.channels * self.width * 4)
        self.file.write(rows[0].float().transpose(0, 1).contiguous().cpu().numpy().data)

    def rows(self, first: int, last: int) -> Tensor:
        rows = torch.empty(last - first, self.channels, self.width)
        self.file.seek(first * self.channels * self.width * 4)
        self.file.readinto(rows.numpy().data)
        return rows.transpose(0, 1).contiguous()[None].to(self.device)


class Padded(Map):
    """Reflection padding on all sides."""

    def __init__(self, source: Map, padding: int) -> None:
        super().__init__(source.channels, source.height + 2 * padding, source.width + 2 * padding)
        self.source = source
        self.padding = padding

    def rows(self, first: int, last: int) -> Tensor:
        top, bottom = 0, self.source.height - 1
        wanted = np.arange(first - self.padding, last - self.padding)
        wanted = bottom - abs(bottom - abs(wanted - top))
        low, high = int(wanted.min()), int(wanted.max())
        x = self.source.rows(low, high + 1)
        if len(wanted) != high + 1 - low or (np.diff(wanted) != 1).any():
            x = x.index_select(2, torch.from_numpy(wanted - low).to(x.device))
        return F.pad(x, (self.padding, self.padding, 0, 0), mode="reflect")


class Convolved(Map):
    """A convolution, zero-padded as it says."""

    def __init__(self, source: Map, layer: nn.Conv2d) -> None:
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


class Upconvolved(Map):
    """The generator's transposed convolution: 3x3, stride 2, twice the size."""

    def __init__(self, source: Map, layer: nn.ConvTranspose2d) -> None:
        assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (2, 2), (1, 1))
        super().__init__(layer.out_channels, 2 * source.height, 2 * source.width)
        self.source = source
        self.layer = layer

    def rows(self, first: int, last: int) -> Tensor:
        # Row r is made of the source's rows (r - 1) / 2 to (r + 1) / 2.
        low, high = first // 2, min(last // 2, self.source.height - 1)
        x = self.source.rows(low, high + 1)
        layer = self.layer
        y = F.conv_transpose2d(
            x, layer.weight, layer.bias, 2, padding=(0, 1), output_padding=(0, 1)
        )
        return y[:, :, first - 2 * low + 1 : last - 2 * low + 1]


class Upsampled(Map):
    """Every pixel four times."""

    def __init__(self, source: Map) -> None:
        super().__init__(source.channels, 2 * source.height, 2 * source.width)
        self.source = source

    def rows(self, first: int, last: int) -> Tensor:
        low = first // 2
        x = self.source.rows(low, (last - 1) // 2 + 1)
        y = F.interpolate(x, scale_factor=2, mode="nearest")
        return y[:, :, first - 2 * low : last - 2 * low]


class Normed(Map):
    """A norm with known statistics, a shortcut or activation behind it."""

    def __init__(
        self, source: Map, layer: NormActPad, moments: "Moments", shortcut: Map | None = None
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


class Applied(Map):
    """A function of each value."""

    def __init__(self, source: Map, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(source.channels, source.height, source.width)
        self.source = source
        self.function = function

    def rows(self, first: int, last: int) -> Tensor:
        return self.function(self.source.rows(first, last))


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel, [1, C, 1, 1]."""

    mean: Tensor
    variance: Tensor


class Frame:
    """The passes over one picture: how many rows a strip has, and how far the work is."""

    def __init__(self, generator: ResnetGenerator, values: int, report: Report) -> None:
        self.values = values  # a strip's features have about so many
        self.report = report
        self.passes = 6 + 3 * len(generator.trunk)  # each norm, each block's sum, the trunk's start
        self.passed = 0
        self.kept: list[StoredMap] = []

    def strips(self, source: Map) -> Iterator[tuple[int, Tensor]]:
        """Yield all rows, a strip at a time: the first row's number, and the rows."""
        step = max(self.values // (source.channels * source.width), 4)
        for first in range(0, source.height, step):
            last = min(first + step, source.height)
            yield first, source.rows(first, last)
            self.report((self.passed + last / source.height) / self.passes)
        self.passed += 1

    def moments(self, source: Map, store: StoredMap | None = None) -> Moments:
        """Return a map's statistics over all its rows, stored on the way where asked."""
        count, mean, spread = 0, torch.zeros(()), torch.zeros(())
        for first, rows in self.strips(source):
            if store is not None:
                store.write(first, rows)
            x = rows[0].flatten(1).double()
            here = x.mean(1)
            # Chan et al. 1979: sums of squares of parts, without the cancellation of a plain sum.
            delta, total = here - mean, count + x.shape[1]
            spread = spread + (x - here[:, None]).square().sum(1)
            spread = spread + delta.square() * (count * x.shape[1] / total)
            mean = mean + delta * (x.shape[1] / total)
            count = total
        shape = (1, -1, 1, 1)
        return Moments(mean.float().view(shape), (spread / count).float().view(shape))

    def stored(self, source: Map, device: torch.device) -> tuple[StoredMap, Moments]:
        """Compute a map once; return it with its statistics."""
        kept = StoredMap(source.channels, source.height, source.width, device)
        self.kept.append(kept)
        return kept, self.moments(source, kept)

    def through(self, layers: nn.Sequential, x: Map) -> Map:
        """Return what encoder or decoder layers make of a map."""
        for layer in layers:
            if isinstance(layer, ReflectPad):
                x = Padded(x, layer.padding)
            elif isinstance(layer, nn.Conv2d):
                x = Convolved(x, layer)
            elif isinstance(layer, nn.ConvTranspose2d):
                x = Upconvolved(x, layer)
            elif isinstance(layer, nn.Upsample):
                x = Upsampled(x)
            elif isinstance(layer, NormActPad):
                x = Normed(x, layer, self.moments(x))
                x = Padded(x, layer.padding) if layer.padding else x
            elif isinstance(layer, nn.Tanh):
                x = Applied(x, torch.tanh)
            else:
                raise TypeError(f"no strips for {type(layer).__name__}")
        return x

    def block(self, block: ResidualBlock, x: StoredMap) -> StoredMap:
        """Return a residual block's result."""
        first, moments = self.stored(Convolved(Padded(x, 1), block.first), x.device)
        between = Padded(Normed(first, block.between, moments), 1)  # dropout is off
        second, moments = self.stored(Convolved(between, block.second), x.device)
        result, _ = self.stored(Normed(second, block.end, moments, x), x.device)
        self.close(except_for=result)
        return result

    def close(self, except_for: StoredMap | None = None) -> None:
        """Give the disk back what stored maps took."""
        for kept in self.kept:
            if kept is not except_for:
                kept.file.close()
        self.kept = [] if except_for is None else [except_for]


@torch.no_grad()
def translate_in_strips(
    generator: ResnetGenerator,
    pixels: np.ndarray,
    values: int,
    device: torch.device,
    report: Report,
) -> np.ndarray:
    """Return the translation of uint8 [H, W, C], of sides the generator takes, as uint8.

    At most a few times `values` features (float32) are in memory at once. RunError where the
    temporary folder is full.
    """
    frame = Frame(generator, values, report)
    widest = max(m.out_channels for m in generator.encoder if isinstance(m, nn.Conv2d)) // 4
    try:
        x = frame.through(generator.encoder, PictureMap(pixels, device))
        x, _ = frame.stored(x, device)
        for block in generator.trunk:
            assert isinstance(block, ResidualBlock)
            x = frame.block(block, x)
        x = frame.through(generator.decoder, x)
        result = np.empty((x.height, x.width, x.channels), np.uint8)
        full = Frame(generator, values, lambda _: None)
        full.values = values * x.channels // widest
        for first, rows in full.strips(x):
            strip = denormalise(rows[0]).permute(1, 2, 0).cpu().numpy()
            result[first : first + len(strip)] = strip
    except OSError as error:
        raise RunError(
            f"{tempfile.gettempdir()}: {error.strerror}; TMPDIR=FOLDER names another folder"
        ) from None
    finally:
        frame.close()
    return result
