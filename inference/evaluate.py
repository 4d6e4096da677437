"""Translate every held-out image in every direction, and measure."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.folders import DataConfig, find_split, folder_of, truth_of
from data.loading import denormalise, held_out, normalise
from engine.progress import counted
from engine.state import write_text
from errors import UserError
from inference.pictures import write_picture, written_name
from inference.run import Run
from metrics.distortion import Distortion


@dataclass(frozen=True)
class Row:
    """One held-out image and what became of it, each [1, C, H, W] uint8 on the CPU."""

    name: str
    real: Tensor
    fake: Tensor
    restored: Tensor | None
    truth: Tensor | None
    figures: dict[str, float | None]


@dataclass
class Result:
    """What evaluation found out: figures by direction, and the rows kept for the report."""

    figures: dict[str, dict[str, Any]]
    protocol: dict[str, Any]
    rows: dict[str, list[Row]]


def evaluate(run: Run, data: DataConfig, keep_rows: int) -> Result:
    """Translate all held-out images, write them to RUN/test/DIRECTION, and return the figures.

    Per direction: cycle_l1 and cycle_psnr of the restored image against the input (where the run has
    the way back), truth_psnr and truth_ssim against the true translation (where it is known), and
    copy_psnr, copy_ssim: what handing back the input unchanged would score. PSNR is from the pooled
    squared error, values range over [-1, 1]; fakes are measured rounded to 8 bits, before
    a format such as JPEG loses more. `keep_rows` rows of each direction are kept for a report (0 keeps all).
    """
    files = find_split(data, "test")
    truths = truth_of(data, files)
    figures, rows = {}, {}
    for direction, translator in run.translators.items():
        domain = translator.source
        figures[direction], rows[direction] = _evaluate_direction(
            run,
            data,
            direction,
            files[domain],
            folder_of(data, "test", domain),
            truths.get(direction),
            keep_rows,
        )
    protocol = {
        "step": run.step, "weights": run.weights, "fit": data.fit, "size": data.crop_size,
        "resize": "OpenCV bicubic, area where it shrinks", "seed": run.options.seed,
        "precision": run.runtime.config.precision, "device": str(run.runtime.device),
        "images": {domain: len(paths) for domain, paths in files.items()},
        "truth": sorted(truths),
    }  # fmt: skip
    return Result(figures, protocol, rows)


@torch.no_grad()
def _evaluate_direction(
    run: Run, data: DataConfig, direction: str, files: Sequence[Path], folder: Path,
    truth_files: Sequence[Path] | None, keep_rows: int,
) -> tuple[dict[str, Any], list[Row]]:  # fmt: skip
    translator = run.translators[direction]
    back = run.translators.get(f"{translator.target}_to_{translator.source}")
    cycle, truth, copied = Distortion(), Distortion(), Distortion()
    channels = data.channels_of()
    truths = held_out(truth_files, data, channels[translator.target]) if truth_files else None
    images = held_out(files, data, channels[translator.source])
    finished = run.path / "test" / direction
    building = finished.with_name(f"{direction}.partial")
    shutil.rmtree(building, ignore_errors=True)
    wanted, rows = min(keep_rows or len(files), len(files)), []
    for number, (file, real) in enumerate(
        zip(counted(files, len(files), direction), images, strict=True)
    ):
        with run.runtime.autocast():
            fake = translator(run.runtime.receive(real))
            restored = back(fake) if back is not None else None
        fake_bytes = denormalise(fake).cpu()
        name = file.relative_to(folder)
        pixels = fake_bytes[0].permute(1, 2, 0).numpy()
        if (building / written_name(name)).exists():
            raise UserError(f"{file}: another held-out image is written under its name; rename one")
        write_picture(building / written_name(name), pixels)
        alone: dict[str, float | None] = {}
        if restored is not None:
            restored = restored.float().cpu()
            alone |= _named("cycle", cycle.update(restored, real))
        true = next(truths) if truths is not None else None
        if true is not None:
            if true.shape[-2:] != real.shape[-2:]:
                raise UserError(
                    f"{file} and its true translation differ in size; use data.fit=stretch"
                )
            alone |= _named("truth", truth.update(normalise(fake_bytes), true))
            if real.shape == true.shape:
                copied.update(real, true)
        if number * wanted // len(files) == len(rows) and len(rows) < wanted:  # spread evenly
            back_again, aim = (None if x is None else denormalise(x) for x in (restored, true))
            rows.append(Row(str(name), denormalise(real), fake_bytes, back_again, aim, alone))
    shutil.rmtree(finished, ignore_errors=True)  # of an earlier evaluation
    building.rename(finished)
    summary: dict[str, Any] = {"images": len(files)}
    for label, distortion in (("cycle", cycle), ("truth", truth), ("copy", copied)):
        if distortion.count:
            summary |= _named(label, distortion.result())
    return summary, rows


def _named(label: str, figures: Mapping[str, float | None]) -> dict[str, float | None]:
    return {f"{label}_{name}": value for name, value in figures.items() if name != "count"}


def write_metrics(run: Run, result: Result, data: DataConfig) -> Path:
    """Write RUN/test/metrics.json: the figures by direction, and the protocol they were measured by."""
    path = run.path / "test" / "metrics.json"
    content = {"run": run.path.name, "directions": result.figures, "protocol": result.protocol,
               "data": asdict(data)}  # fmt: skip
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as a table for the terminal, a row a direction."""
    columns = {
        "images": ("images", "{:d}"), "truth_psnr": ("PSNR to truth", "{:.2f} dB"),
        "truth_ssim": ("SSIM", "{:.3f}"), "copy_psnr": ("(input copied)", "{:.2f} dB"),
        "cycle_psnr": ("cycle PSNR", "{:.2f} dB"), "cycle_l1": ("cycle L1", "{:.4f}"),
    }  # fmt: skip
    shown = [key for key in columns if any(key in row for row in figures.values())]
    cells = [["direction", *(columns[key][0] for key in shown)]]
    for direction, row in figures.items():
        values = (row.get(key) for key in shown)
        texts = [
            "-" if v is None else columns[k][1].format(v)
            for k, v in zip(shown, values, strict=True)
        ]
        cells.append([direction, *texts])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(w) if i == 0 else text.rjust(w)
            for i, (text, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )
