"""The parity gate: run a file on real images of odd sizes, and say how far it is from the translator."""

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
from data.tensors import denormalize, normalize
from inference.exported_bundle import WEIGHTS
from inference.open_run import Run

SIZES = ((61, 75), (65, 81), (16, 16), (128, 96), (256, 256))  # height, width
BATCHES = (1, 3)
TIMED, REPEATS = (256, 256), 5

Runner = Callable[[Tensor], Tensor]
"""Images [B, C, H, W] in [-1, 1], each a multiple of a level, to translations in [-1, 1]."""


@dataclass(frozen=True)
class Gate:
    """How near a file must come to the translator; differences are on [-1, 1], PSNR over that range."""

    difference: float = math.inf
    psnr: float = 0.0  # dB
    share: float = 1.0  # of values that differ; uint8 only


LEVEL = 1 / 127.5
GATES = {
    WEIGHTS: Gate(1e-4),
    "model.pt2": Gate(1e-4),
    "model_raw.onnx": Gate(1e-4),
    "model.onnx": Gate(1.001 * LEVEL, share=1e-3),  # rounding to uint8 turns 1e-6 into a level
    "model_fp16.onnx": Gate(2e-2),
    "model_int8.onnx": Gate(psnr=35.0),
}


@dataclass(frozen=True)
class Parity:
    """How a file compares with the translator, over all sizes and batches."""

    file: str
    megabytes: float
    difference: float  # the largest, on [-1, 1]
    psnr: float | None  # dB over all values; None where all are equal
    differing: float  # share of values that are not equal
    milliseconds: float  # median of a picture of 256x256 on the CPU

    def faults(self, gate: Gate) -> str:
        """Return what is outside the gate in a few words, or nothing."""
        if not self.difference <= gate.difference:
            return f"its largest difference is {self.difference:.2g}, at most {gate.difference:.2g}"
        if self.psnr is not None and not self.psnr >= gate.psnr:
            return f"its PSNR is {self.psnr:.1f} dB, at least {gate.psnr:.0f}"
        if not self.differing <= gate.share:
            return f"{self.differing:.2%} of its values differ, at most {gate.share:.2%}"
        return ""


class Comparison:
    """What a direction's translator makes of samples of its images, and how files compare with it."""

    def __init__(self, run: Run, direction: str) -> None:
        self.direction = direction
        self.rows: list[Parity] = []
        self.rejected: dict[str, str] = {}  # file -> why it was left out
        translator = run.translators[direction]
        real = real_images(run, translator.source, "test", 2 * max(BATCHES))
        self.images_are = "held-out images" if real else "noise (no held-out images were found)"
        self.samples = samples(real or noise(translator.in_channels, 2 * max(BATCHES)))
        with torch.no_grad():
            self.expected = [translator(image) for image in self.samples]

    def check(self, path: Path, runner: Runner) -> None:
        """Add the row of the file at `path`; RunError where it is outside its gate."""
        row = self.measured(path, runner)
        faults = row.faults(GATES[path.name])
        if faults:
            raise RunError(
                f"{self.direction}: {path.name} is not the translator: {faults}; "
                "nothing was exported"
            )
        self.rows.append(row)

    @torch.no_grad()
    def measured(self, path: Path, runner: Runner) -> Parity:
        """Return how the file at `path`, run by `runner`, compares with the translator."""
        rounds = path.suffix == ".onnx" and path.name != "model_raw.onnx"
        largest, squares, differing, count = 0.0, 0.0, 0, 0
        for image, expected in zip(self.samples, self.expected, strict=True):
            aim = to_level(expected) if rounds else expected
            apart = (runner(image) - aim).abs().double()
            if not bool(apart.isfinite().all()):
                apart = apart.nan_to_num(math.inf, math.inf)
            largest = max(largest, float(apart.max()))
            squares += float(apart.square().sum())
            differing += int(torch.count_nonzero(apart))
            count += apart.numel()
        timed = next(s for s in self.samples if s.shape[0] == 1 and tuple(s.shape[2:]) == TIMED)
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            runner(timed)
            seconds.append(time.perf_counter() - began)
        psnr = None if not squares else 10 * math.log10(max(4 * count / squares, 1e-30))
        return Parity(
            path.name, path.stat().st_size / 1e6, largest, psnr, differing / count,
            1e3 * statistics.median(seconds),
        )  # fmt: skip


def real_images(run: Run, domain: str, split: Literal["train", "test"], count: int) -> list[Tensor]:
    """Return up to `count` images [1, C, H, W] of a domain as evaluation sees them, or none.

    Images of one colour are passed over: their contrast is 0, a norm divides by it, and not even two
    machines agree on what comes out.
    """
    data = replace(run.options.data, limit=0)
    try:
        files = files_in(folder_of(data, split, domain))
        images = list(load_held_out(evenly_spaced(files, count), data, data.channels_of()[domain]))
    except (UserError, OSError):  # the run's images are not on this machine
        return []
    return [image for image in images if float(image.std()) > 0.02]


def noise(channels: int, count: int) -> list[Tensor]:
    """Return `count` smooth random images [1, channels, 256, 256]."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 32, 32, generator=random) * 2 - 1
    return list(F.interpolate(coarse, TIMED, mode="bilinear").split(1))


def samples(images: Sequence[Tensor]) -> list[Tensor]:
    """Return a batch for each of SIZES and BATCHES, of values that are multiples of a level."""
    found, position = [], 0
    for size in SIZES:
        for batch in BATCHES:
            chosen = [images[(position + number) % len(images)] for number in range(batch)]
            position += batch
            scaled = [F.interpolate(i, size, mode="bilinear", antialias=True) for i in chosen]
            found.append(to_level(torch.cat(scaled)))
    return found


def to_level(image: Tensor) -> Tensor:
    """Round values in [-1, 1] to those that 8 bits can say."""
    return normalize(denormalize(image))


def as_pixels(image: Tensor) -> np.ndarray:
    """Return [B, C, H, W] in [-1, 1] as uint8 [B, H, W, C]."""
    return np.ascontiguousarray(denormalize(image).permute(0, 2, 3, 1).numpy())


def onnx_runner(path: Path) -> Runner:
    """Return an ONNX file as a function of images, on the CPU with as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    pixels = session.get_inputs()[0].type == "tensor(uint8)"

    def run(image: Tensor) -> Tensor:
        feed = as_pixels(image) if pixels else image.numpy()
        result = torch.from_numpy(np.array(session.run(None, {"image": feed})[0]))
        return normalize(result.permute(0, 3, 1, 2)) if pixels else result

    return run


def table(rows: Sequence[Parity]) -> str:
    """Return the parity of all files for the terminal, a row a file."""
    return aligned([("file", "MB", "max difference", "PSNR", "ms"), *map(cells, rows)])


def cells(row: Parity) -> tuple[str, ...]:
    """Return a row of the table as texts."""
    psnr = "equal" if row.psnr is None else f"{row.psnr:.1f} dB"
    return (row.file, f"{row.megabytes:.2f}", f"{row.difference:.1e}", psnr,
            f"{row.milliseconds:.0f}")  # fmt: skip
