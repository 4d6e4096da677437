"""Check that an exported file computes the same as its translator, on real images of odd sizes."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import RunError, UserError
from common.text_table import aligned
from data.folders import evenly_spaced, files_in, folder_of
from data.samples import load_held_out
from data.tensors import denormalize, normalize, to_unit
from data.values.value_range import DomainFormat
from inference.exported_bundle import WEIGHTS
from inference.open_run import Run

SIZES = ((61, 75), (65, 81), (16, 16), (128, 96), (256, 256))  # height, width
BATCHES = (1, 3)
TIMED_SIZE = (256, 256)
TIMED_RUNS = 5
MIN_STD = 0.02  # of a real image, in [-1, 1]

Runner = Callable[[Tensor], Tensor]
"""Maps images [B, C, H, W] in [-1, 1], rounded to 8 bits, to translations in [-1, 1]."""


@dataclass(frozen=True)
class Gate:
    """The limits that an exported file must keep; differences and PSNR are on [-1, 1]."""

    max_difference: float = math.inf
    min_psnr: float = 0.0  # dB
    max_differing: float = 1.0  # share of the values that differ; for uint8 outputs


PICTURES = DomainFormat()  # of 8 bits, as a domain without a range has them
LEVEL = 1 / 127.5  # the distance of two 8-bit levels on [-1, 1]
GATES = {
    WEIGHTS: Gate(1e-4),
    "model.pt2": Gate(1e-4),
    "model_raw.onnx": Gate(1e-4),
    "model.onnx": Gate(1.001 * LEVEL, max_differing=1e-3),  # rounding can make 1e-6 a level
    "model_fp16.onnx": Gate(2e-2),
    "model_int8.onnx": Gate(min_psnr=35.0),
}


@dataclass(frozen=True)
class Parity:
    """The deviation of an exported file from the translator, over all sizes and batches."""

    file: str
    megabytes: float
    difference: float  # the largest, on [-1, 1]
    psnr: float | None  # dB over all values; None where they are all equal
    differing: float  # share of values that are not equal
    milliseconds: float  # median time of an image of 256x256 on the CPU

    def violation(self, gate: Gate) -> str:
        """Return the first limit of the gate that is exceeded, as text; empty where none is."""
        if not self.difference <= gate.max_difference:
            limit = f"at most {gate.max_difference:.2g} is allowed"
            return f"its largest difference is {self.difference:.2g}, {limit}"
        if self.psnr is not None and not self.psnr >= gate.min_psnr:
            return f"its PSNR is {self.psnr:.1f} dB, at least {gate.min_psnr:.0f} is required"
        if not self.differing <= gate.max_differing:
            limit = f"at most {gate.max_differing:.2%} may"
            return f"{self.differing:.2%} of its values differ, {limit}"
        return ""


class ParityCheck:
    """The samples of a direction, the translator's outputs for them, and the parity of files."""

    def __init__(self, run: Run, direction: str) -> None:
        self.direction = direction
        self.rows: list[Parity] = []
        self.rejected: dict[str, str] = {}  # file -> the reason why it was left out
        translator = run.translators[direction]
        formats = run.options.data.formats()
        self.source, self.target = formats[translator.source], formats[translator.target]
        real = real_images(run, translator.source, "test", 2 * max(BATCHES))
        self.sample_source = "held-out images" if real else "noise (no held-out images were found)"
        self.samples = sample_batches(real or noise(translator.in_channels, 2 * max(BATCHES)))
        with torch.no_grad():
            self.expected = [translator(image) for image in self.samples]

    def check(self, path: Path, runner: Runner) -> None:
        """Measure the file at `path` and add it to `rows`; RunError where it exceeds its gate."""
        row = self.measure(path, runner)
        violation = row.violation(self.gate(path.name))
        if violation:
            raise RunError(
                f"{self.direction}: {path.name} does not equal the translator: {violation}; "
                "nothing was exported"
            )
        self.rows.append(row)

    def gate(self, name: str) -> Gate:
        """Return the limits of a file; those of floats where its values are not rounded."""
        is_rounded = name != "model.onnx" or not self.target.has_range
        return GATES[name if is_rounded else "model_raw.onnx"]

    def onnx_runner(self, path: Path) -> Runner:
        """Return a function that runs an ONNX file of this direction on the CPU."""
        return onnx_runner(path, self.source, self.target)

    @torch.no_grad()
    def measure(self, path: Path, runner: Runner) -> Parity:
        """Return the parity of the file at `path`, which `runner` runs, with the translator."""
        takes_arrays = path.suffix == ".onnx" and path.name != "model_raw.onnx"
        largest, squares, differing, count = 0.0, 0.0, 0, 0
        for image, expected in zip(self.samples, self.expected, strict=True):
            target = round_as_saved(expected, self.target) if takes_arrays else expected
            difference = (runner(image) - target).abs().double()
            if not bool(difference.isfinite().all()):
                difference = difference.nan_to_num(math.inf, math.inf)
            largest = max(largest, float(difference.max()))
            squares += float(difference.square().sum())
            differing += int(torch.count_nonzero(difference))
            count += difference.numel()
        timed = next(s for s in self.samples if (s.shape[0], *s.shape[2:]) == (1, *TIMED_SIZE))
        seconds = []
        for _ in range(TIMED_RUNS):
            start = time.perf_counter()
            runner(timed)
            seconds.append(time.perf_counter() - start)
        psnr = None if not squares else 10 * math.log10(max(4 * count / squares, 1e-30))
        return Parity(
            path.name, path.stat().st_size / 1e6, largest, psnr, differing / count,
            1e3 * statistics.median(seconds),
        )  # fmt: skip


def real_images(run: Run, domain: str, split: Literal["train", "test"], count: int) -> list[Tensor]:
    """Return up to `count` images [1, C, H, W] of a domain, preprocessed as in evaluation.

    Empty where the images are not on this machine. Images of a single color are left out: an
    instance norm divides by their contrast of about 0, so that even two machines disagree on the
    output.
    """
    data = replace(run.options.data, limit=0)
    try:
        files = files_in(folder_of(data, split, domain))
        images = list(load_held_out(evenly_spaced(files, count), data, data.formats()[domain]))
    except (UserError, OSError):  # the run's images are not on this machine
        return []
    return [image for image in images if float(image.std()) > MIN_STD]


def noise(channels: int, count: int) -> list[Tensor]:
    """Return `count` smooth random images [1, channels, 256, 256]."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 32, 32, generator=random) * 2 - 1
    return list(F.interpolate(coarse, TIMED_SIZE, mode="bilinear").split(1))


def sample_batches(images: Sequence[Tensor]) -> list[Tensor]:
    """Return a batch of resized images for each of SIZES and BATCHES, rounded to 8 bits."""
    batches, position = [], 0
    for size in SIZES:
        for batch_size in BATCHES:
            chosen = [images[(position + number) % len(images)] for number in range(batch_size)]
            position += batch_size
            resized = [F.interpolate(i, size, mode="bilinear", antialias=True) for i in chosen]
            batches.append(round_to_8_bits(torch.cat(resized)))
    return batches


def round_to_8_bits(image: Tensor) -> Tensor:
    """Round values in [-1, 1] to the 256 levels of 8 bits."""
    return normalize(denormalize(image))


def round_as_saved(image: Tensor, form: DomainFormat) -> Tensor:
    """Round to 8 bits, or clip to [-1, 1] for a domain whose graph gives floats."""
    return image.clamp(-1, 1) if form.has_range else round_to_8_bits(image)


def as_arrays(image: Tensor, form: DomainFormat) -> np.ndarray:
    """Return [B, C, H, W] in [-1, 1] as a graph takes it, [B, H, W, C]: uint8, or in units."""
    if form.low is None or form.span is None:
        return np.ascontiguousarray(denormalize(image).permute(0, 2, 3, 1).numpy())
    values = to_unit(image).double() * form.span + form.low
    return np.ascontiguousarray(values.float().permute(0, 2, 3, 1).numpy())


def from_arrays(arrays: np.ndarray, form: DomainFormat) -> Tensor:
    """Return what a graph gives, [B, H, W, C], as [B, C, H, W] in [-1, 1]."""
    images = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    if form.low is None or form.span is None:
        return normalize(images)
    return ((images.double() - form.low) / form.span * 2 - 1).float()


def onnx_runner(
    path: Path, source: DomainFormat = PICTURES, target: DomainFormat = PICTURES
) -> Runner:
    """Return a function that runs an ONNX file on the CPU, with as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    takes_arrays = "layout" in session.get_modelmeta().custom_metadata_map

    def run(image: Tensor) -> Tensor:
        feed = as_arrays(image, source) if takes_arrays else image.numpy()
        result = np.array(session.run(None, {"image": feed})[0])
        return from_arrays(result, target) if takes_arrays else torch.from_numpy(result)

    return run


def parity_table(rows: Sequence[Parity]) -> str:
    """Return the parity of all files as a table for the terminal, a row for each file."""
    return aligned([("file", "MB", "max difference", "PSNR", "ms"), *map(table_cells, rows)])


def table_cells(row: Parity) -> tuple[str, ...]:
    """Return the parity of a file as the texts of a table row."""
    psnr = "equal" if row.psnr is None else f"{row.psnr:.1f} dB"
    return (row.file, f"{row.megabytes:.2f}", f"{row.difference:.1e}", psnr,
            f"{row.milliseconds:.0f}")  # fmt: skip
