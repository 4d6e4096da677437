"""Translate a picture in strips, with the result of the whole picture and the memory of a strip.

An instance norm uses the mean and variance of the whole picture, so tiles cannot be translated one
by one: they would differ, with visible seams. Here each layer is a map whose rows are computed on
demand (lazy_features.py). The statistics of a norm are collected in one pass over all rows, before
any later layer is computed. Encoder and decoder are computed again for each of their norms, which
is cheap; the residual blocks, most of the computation, store their maps in a temporary file and run
once.

If a channel is constant, as in a picture of a single color, a norm divides rounding errors by a
value near zero: the result in strips may then differ, as it may between two machines.
"""

import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import RunError
from data.tensors import to_pixels
from engine.hardware.memory import free_memory
from inference.tiling.lazy_features import (
    BYTES_PER_VALUE,
    Applied,
    Blurred,
    Convolved,
    Interpolated,
    LazyFeatureMap,
    Moments,
    Normed,
    Padded,
    PictureMap,
    StoredMap,
    Upconvolved,
    Upsampled,
)
from models.networks.generators.resnet_generator import ResidualBlock, ResnetGenerator
from models.networks.layers.blur import BlurDown
from models.networks.layers.norm_act_pad import NormActPad, ReflectPad
from models.translator import DeterministicTranslator, Translator

Report = Callable[[float], None]
"""Called with the finished fraction, 0 to 1."""

MAPS_AT_ONCE = 6  # maps of the size of the widest layer in memory in a forward pass
STRIPS_AT_ONCE = 4  # strips of successive layers in memory, each with its own maps
MEMORY_SHARE = 0.6  # of the free memory that one picture may use


def strips_for(translator: Translator, tile: str, pixels: np.ndarray, device: torch.device) -> int:
    """Return the number of features of a strip, or 0 to translate the whole picture at once.

    `tile` is "auto", "off" or N, for strips with the area of N x N pixels.
    """
    generator = getattr(translator, "generator", None)
    if tile == "off" or not isinstance(generator, ResnetGenerator) or generator.attention:
        return 0
    width = generator.config.channels
    if tile != "auto":
        return int(tile) ** 2 * width
    needed = pixels.shape[0] * pixels.shape[1] * width * BYTES_PER_VALUE * MAPS_AT_ONCE
    free = free_memory(device) * MEMORY_SHARE
    if needed <= free:
        return 0
    smallest, largest = 64**2 * width, 1024**2 * width
    fitting = free / (BYTES_PER_VALUE * STRIPS_AT_ONCE * MAPS_AT_ONCE)
    return int(min(max(fitting, smallest), largest))


class StripRunner:
    """Run a generator over one picture in strips, report the progress, and store its maps."""

    def __init__(self, generator: ResnetGenerator, strip_values: int, report: Report) -> None:
        self.strip_values = strip_values  # approximate number of features of a strip
        self.report = report
        # The norms of encoder and decoder, three a block, the input of the trunk, and the output.
        self.passes = 7 + 3 * len(generator.trunk)
        self.finished_passes = 0
        self.stored_maps: list[StoredMap] = []

    def strips(self, source: LazyFeatureMap, channels: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Yield all rows of a map in strips, as (number of the first row, rows).

        The height of a strip is computed for `channels` channels, if given, instead of the map's
        own.
        """
        step = max(self.strip_values // ((channels or source.channels) * source.width), 4)
        for first in range(0, source.height, step):
            last = min(first + step, source.height)
            yield first, source.rows(first, last)
            self.report((self.finished_passes + last / source.height) / self.passes)
        self.finished_passes += 1

    def moments(self, source: LazyFeatureMap, copy: StoredMap | None = None) -> Moments:
        """Return a map's statistics over all rows; also write the rows to `copy`, if given."""
        count, mean, squares, device = 0, torch.zeros(()), torch.zeros(()), torch.device("cpu")
        for first, rows in self.strips(source):
            device = rows.device
            if copy is not None:
                copy.write(first, rows)
            x = rows[0].flatten(1)
            x = (x.cpu() if x.device.type == "mps" else x).double()  # Apple's GPU has no float64
            strip_mean = x.mean(1)
            # Chan et al. 1979: sums of squares of parts, without the cancellation of a plain sum.
            delta, total = strip_mean - mean, count + x.shape[1]
            squares = squares + (x - strip_mean[:, None]).square().sum(1)
            squares = squares + delta.square() * (count * x.shape[1] / total)
            mean = mean + delta * (x.shape[1] / total)
            count = total
        shape = (1, -1, 1, 1)
        return Moments(*(x.float().view(shape).to(device) for x in (mean, squares / count)))

    def store(self, source: LazyFeatureMap, device: torch.device) -> tuple[StoredMap, Moments]:
        """Compute a map, store it, and return it with its statistics."""
        stored = StoredMap(source.channels, source.height, source.width, device)
        self.stored_maps.append(stored)
        return stored, self.moments(source, stored)

    def apply_layers(self, layers: nn.Sequential, x: LazyFeatureMap) -> LazyFeatureMap:
        """Return the map after the layers of an encoder or decoder; TypeError for other layers."""
        for layer in layers:
            if isinstance(layer, ReflectPad):
                x = Padded(x, layer.padding)
            elif isinstance(layer, nn.Conv2d):
                x = Convolved(x, layer)
            elif isinstance(layer, nn.ConvTranspose2d):
                x = Upconvolved(x, layer)
            elif isinstance(layer, nn.Upsample):
                x = Interpolated(x) if layer.mode == "bilinear" else Upsampled(x)
            elif isinstance(layer, BlurDown):
                x = Blurred(x)
            elif isinstance(layer, NormActPad):
                x = Normed(x, layer, self.moments(x))
                x = Padded(x, layer.padding) if layer.padding else x
            elif isinstance(layer, nn.Tanh):
                x = Applied(x, torch.tanh)
            else:
                raise TypeError(f"{type(layer).__name__} cannot be computed in strips")
        return x

    def block(self, block: ResidualBlock, x: StoredMap) -> StoredMap:
        """Return the output of a residual block, and delete the maps that it no longer needs."""
        first, moments = self.store(Convolved(Padded(x, 1), block.first), x.device)
        between = Padded(Normed(first, block.between, moments), 1)  # dropout is off
        second, moments = self.store(Convolved(between, block.second), x.device)
        result, _ = self.store(Normed(second, block.end, moments, x), x.device)
        self.close(except_for=result)
        return result

    def close(self, except_for: StoredMap | None = None) -> None:
        """Delete the temporary files of the stored maps."""
        for stored in self.stored_maps:
            if stored is not except_for:
                stored.file.close()
        self.stored_maps = [] if except_for is None else [except_for]


@torch.no_grad()
def translate_in_strips(
    translator: Translator, pixels: np.ndarray, strip_values: int, device: torch.device,
    report: Report, as_floats: bool = False,
) -> np.ndarray:  # fmt: skip
    """Return the translation of pixels [H, W, C] by a translator that `strips_for` supports.

    Pixels are uint8, or float32 in [0, 1]; the result is uint8, or float32 with `as_floats`.

    At most a few times `strip_values` features (float32) are in memory at once. RunError if the
    temporary folder is full.
    """
    assert isinstance(translator, DeterministicTranslator)
    generator = translator.generator
    assert isinstance(generator, ResnetGenerator)
    height, width = pixels.shape[:2]
    down, right, reflected = translator.padding(height, width)
    if down or right:
        mode = "reflect" if reflected else "edge"
        pixels = np.pad(pixels, ((0, down), (0, right), (0, 0)), mode=mode)
    runner = StripRunner(generator, strip_values, report)
    try:
        x = runner.apply_layers(generator.encoder, PictureMap(pixels, device))
        x, _ = runner.store(x, device)
        for block in generator.trunk:
            assert isinstance(block, ResidualBlock)
            x = runner.block(block, x)
        x = runner.apply_layers(generator.decoder, x)
        result = np.empty((x.height, x.width, x.channels), np.float32 if as_floats else np.uint8)
        # The few channels of the picture come from a full-size layer of many: size strips for that.
        for first, rows in runner.strips(x, generator.config.channels):
            strip = to_pixels(rows[0], as_floats).permute(1, 2, 0).cpu().numpy()
            result[first : first + len(strip)] = strip
    except OSError as error:
        raise RunError(
            f"{tempfile.gettempdir()}: {error.strerror}; set TMPDIR=FOLDER to use another folder"
        ) from None
    finally:
        runner.close()
    return result[:height, :width]
