"""Translate a picture in strips, with the result of the whole frame and the memory of a strip.

An instance norm takes mean and variance over the whole picture, so pieces of a picture cannot be
translated one by one: they would differ, and their seams would show. Here each layer is a map whose
rows are computed when somebody asks for them (lazy_features.py). The statistics of a norm are
collected in one pass over all rows before anything behind it is computed. Encoder and decoder are
computed again for each of their norms, which is cheap; the residual blocks, which are the work, keep
their maps in a temporary file, so nothing of them is computed twice.

Where a channel is the same value everywhere, as in a picture of one colour, a norm divides rounding
errors by nothing: there strips and frame, like two machines, need not agree.
"""

import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import RunError
from data.tensors import denormalize
from engine.hardware.memory import free_memory
from inference.tiling.lazy_features import (
    BYTES_A_VALUE,
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
"""Told the share that is done, 0 to 1."""

MAPS_AT_ONCE = 6  # as large as the widest layer, that a forward of the whole frame holds
STRIPS_AT_ONCE = 4  # strips of layers on top of each other, each with its own maps
SHARE = 0.6  # of the free memory that one picture may take


def strips_for(translator: Translator, tile: str, pixels: np.ndarray, device: torch.device) -> int:
    """Return how many features a strip has, or 0 where the whole frame is translated at once.

    `tile` is "auto", "off" or the side of a square of as many pixels as a strip has.
    """
    generator = getattr(translator, "generator", None)
    if tile == "off" or not isinstance(generator, ResnetGenerator) or generator.attention:
        return 0
    width = generator.config.channels
    if tile != "auto":
        return int(tile) ** 2 * width
    needed = pixels.shape[0] * pixels.shape[1] * width * BYTES_A_VALUE * MAPS_AT_ONCE
    free = free_memory(device) * SHARE
    if needed <= free:
        return 0
    smallest, largest = 64**2 * width, 1024**2 * width
    return int(min(max(free / (BYTES_A_VALUE * STRIPS_AT_ONCE * MAPS_AT_ONCE), smallest), largest))


class StripRunner:
    """The passes over one picture: how many rows a strip has, and how far the work is."""

    def __init__(self, generator: ResnetGenerator, values: int, report: Report) -> None:
        self.values = values  # a strip's features have about so many
        self.report = report
        # Each norm of encoder and decoder, three of each block, the start of the trunk, the picture.
        self.passes = 7 + 3 * len(generator.trunk)
        self.passed = 0
        self.kept: list[StoredMap] = []

    def strips(self, source: LazyFeatureMap, channels: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Yield all rows, a strip at a time: the first row's number, and the rows.

        A strip is as high as one of `channels` would be, where the map's own are not what counts.
        """
        step = max(self.values // ((channels or source.channels) * source.width), 4)
        for first in range(0, source.height, step):
            last = min(first + step, source.height)
            yield first, source.rows(first, last)
            self.report((self.passed + last / source.height) / self.passes)
        self.passed += 1

    def moments(self, source: LazyFeatureMap, store: StoredMap | None = None) -> Moments:
        """Return a map's statistics over all its rows, stored on the way where asked."""
        count, mean, spread, device = 0, torch.zeros(()), torch.zeros(()), torch.device("cpu")
        for first, rows in self.strips(source):
            device = rows.device
            if store is not None:
                store.write(first, rows)
            x = rows[0].flatten(1)
            x = (x.cpu() if x.device.type == "mps" else x).double()  # Apple's GPU has no float64
            here = x.mean(1)
            # Chan et al. 1979: sums of squares of parts, without the cancellation of a plain sum.
            delta, total = here - mean, count + x.shape[1]
            spread = spread + (x - here[:, None]).square().sum(1)
            spread = spread + delta.square() * (count * x.shape[1] / total)
            mean = mean + delta * (x.shape[1] / total)
            count = total
        shape = (1, -1, 1, 1)
        return Moments(*(x.float().view(shape).to(device) for x in (mean, spread / count)))

    def stored(self, source: LazyFeatureMap, device: torch.device) -> tuple[StoredMap, Moments]:
        """Compute a map once; return it with its statistics."""
        kept = StoredMap(source.channels, source.height, source.width, device)
        self.kept.append(kept)
        return kept, self.moments(source, kept)

    def apply_layers(self, layers: nn.Sequential, x: LazyFeatureMap) -> LazyFeatureMap:
        """Return what encoder or decoder layers make of a map."""
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
    translator: Translator, pixels: np.ndarray, values: int, device: torch.device, report: Report
) -> np.ndarray:
    """Return the translation of uint8 [H, W, C] by a translator that `strips_for` has strips for.

    At most a few times `values` features (float32) are in memory at once. RunError where the
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
    frame = StripRunner(generator, values, report)
    try:
        x = frame.apply_layers(generator.encoder, PictureMap(pixels, device))
        x, _ = frame.stored(x, device)
        for block in generator.trunk:
            assert isinstance(block, ResidualBlock)
            x = frame.block(block, x)
        x = frame.apply_layers(generator.decoder, x)
        result = np.empty((x.height, x.width, x.channels), np.uint8)
        # The picture's few channels come from a full-size layer of many: that one sets the height.
        for first, rows in frame.strips(x, generator.config.channels):
            strip = denormalize(rows[0]).permute(1, 2, 0).cpu().numpy()
            result[first : first + len(strip)] = strip
    except OSError as error:
        raise RunError(
            f"{tempfile.gettempdir()}: {error.strerror}; TMPDIR=FOLDER names another folder"
        ) from None
    finally:
        frame.close()
    return result[:height, :width]
