"""Translate every held-out image in every direction, and measure."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.files import write_text
from common.progress import with_progress
from data.config import DataConfig
from data.fingerprint import fingerprint_of
from data.folders import find_split, folder_of, spread
from data.ground_truth_pairs import truth_of
from data.samples import held_out
from data.tensors import denormalise, normalise
from evaluation.duplicates import Prints, copies, leaks, prints_of
from evaluation.features import Inception, Lpips
from evaluation.image_metrics import Measurements, worst
from evaluation.set_metrics import set_figures
from evaluation.style_metrics import IMAGES, sheet_of, style_figures
from inference.open_run import Run
from inference.outputs import write_picture, written_name

WORST = 3  # images of each kind that the report shows as the worst
SECRETS = 50  # images that the steganography index is measured on: each is restored four times
TRAINED = 2000  # training images of a domain that floor and memorisation look at


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
    images: dict[str, list[tuple[str, dict[str, float | None]]]] = field(default_factory=dict)
    intervals: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    floor: dict[str, dict[str, float]] = field(default_factory=dict)
    ceiling: dict[str, dict[str, float]] = field(default_factory=dict)
    worst: dict[str, dict[str, list[Row]]] = field(default_factory=dict)  # direction, figure
    copies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    leaks: list[dict[str, Any]] = field(default_factory=list)
    sheets: dict[str, np.ndarray] = field(default_factory=dict)  # sources in styles of references


@dataclass
class _Direction:
    """What one direction leaves behind for the figures of sets."""

    measured: Measurements
    rows: list[Row] = field(default_factory=list)

    @property
    def sources(self) -> list[Tensor]:
        return [row.real for row in self.rows]

    @property
    def fakes(self) -> list[Tensor]:
        return [row.fake for row in self.rows]


def evaluate(
    run: Run, data: DataConfig, keep_rows: int, checks: bool = True,
    inception: Inception | None = None, lpips: Lpips | None = None,
) -> Result:  # fmt: skip
    """Translate all held-out images, write them to RUN/test/DIRECTION, and return the figures.

    Per direction: cycle_l1, cycle_psnr and cycle_ssim of the restored image against the input (where
    the run has the way back), truth_psnr and truth_ssim against the true translation (where it is
    known), and copy_psnr, copy_ssim: what handing back the input unchanged would score. PSNR is from
    the pooled squared error, values range over [-1, 1]; fakes are measured rounded to 8 bits, before
    a format such as JPEG loses more. `keep_rows` rows of each direction are kept for a report (0 keeps
    all). With `lpips`, truth_lpips is that distance to the truth. `checks` adds the distances between
    sets with their floor and ceiling, faithfulness, artefacts, memorised training images, and images
    on both sides of a split.
    """
    files = find_split(data, "test")
    truths = {d: paths for d, paths in truth_of(data, files).items() if d in run.translators}
    done = {
        direction: _translate_all(
            run, data, direction, files[translator.source], truths.get(direction), checks, lpips
        )
        for direction, translator in run.translators.items()
    }
    trained = _training_images(data, files) if checks else {}
    same_scenes = {d for d in truths if run.translators[d].target in trained}
    protocol = {
        "step": run.step, "weights": run.weights, "fit": data.fit, "size": data.crop_size,
        "resize": "OpenCV bicubic, area where it shrinks", "seed": run.options.seed,
        "precision": run.runtime.precision, "device": str(run.runtime.device),
        "images": {domain: len(paths) for domain, paths in files.items()},
        "reference": {
            direction: "training images of the target domain: the held-out ones show the same scenes"
            if direction in same_scenes else "the held-out images of the target domain"
            for direction in run.translators
        }, "fingerprint": fingerprint_of(files),
        "truth": sorted(truths), "features": inception.name if inception else "none",
        "lpips": lpips.name if lpips else "none",
    }  # fmt: skip
    result = Result({}, protocol, {})
    prints = _prints(done, files, trained, run) if checks else {}
    for direction, one in done.items():
        target = run.translators[direction].target
        figures: dict[str, Any] = {"images": len(one.rows), **one.measured.result()}
        result.figures[direction] = figures
        result.images[direction] = [(row.name, row.figures) for row in one.rows]
        result.rows[direction] = spread(one.rows, keep_rows or len(one.rows))
        if not checks:
            continue
        result.intervals[direction] = one.measured.intervals()
        reals = next(
            (d.sources for name, d in done.items() if run.translators[name].source == target), []
        ) or _read(files[target], data, data.channels_of()[target])  # fmt: skip
        found = set_figures(
            one.fakes,
            reals,
            one.sources,
            trained[target][1] if target in trained else [],
            inception,
            paired=direction in same_scenes,
        )
        figures |= found.figures
        result.intervals[direction] |= found.intervals
        result.floor[direction], result.ceiling[direction] = found.floor, found.ceiling
        if found.floor:  # there may be fewer than fakes, and so a floor that is too high
            others = reals if direction in same_scenes else trained[target][1]
            found.floor["images"] = min(len(one.rows), len(others))
        looks = [normalise(x) for x in spread(reals, IMAGES)]
        shown_sources = [normalise(x) for x in spread(one.sources, IMAGES)]
        translator = run.translators[direction]
        figures |= style_figures(translator, shown_sources, looks, run.runtime)
        sheet = sheet_of(translator, shown_sources, looks, run.runtime)
        if sheet is not None:
            result.sheets[direction] = sheet
        if f"train/{target}" in prints:
            shown = prints_of("fakes", [Path(row.name) for row in one.rows], one.fakes)
            near = copies(shown, prints[f"train/{target}"])
            figures["copies"] = sum(copied for _, _, copied in near)
            result.copies[direction] = sorted(
                ({"fake": row.name, "training image": str(file), "distance": round(distance, 4),
                  "a copy": "yes" if copied else "no"}
                 for row, (distance, file, copied) in zip(one.rows, near, strict=True)),
                key=lambda row: row["distance"],
            )[:5]  # fmt: skip
        result.worst[direction] = _worst_rows(one.rows)
    if prints:
        result.leaks = leaks(list(prints.values()))
    return result


@torch.no_grad()
def _translate_all(
    run: Run, data: DataConfig, direction: str, files: Sequence[Path],
    truth_files: Sequence[Path] | None, checks: bool, lpips: Lpips | None,
) -> _Direction:  # fmt: skip
    translator = run.translators[direction]
    folder = folder_of(data, "test", translator.source)
    back = run.translators.get(f"{translator.target}_to_{translator.source}")

    def restore(fake: Tensor) -> Tensor:
        assert back is not None
        with run.runtime.autocast():
            return back(run.runtime.to_device(fake.float())).float().cpu()

    channels = data.channels_of()
    truths = held_out(truth_files, data, channels[translator.target]) if truth_files else None
    images = held_out(files, data, channels[translator.source])
    finished = run.path / "test" / direction
    building = finished.with_name(f"{direction}.partial")
    shutil.rmtree(building, ignore_errors=True)
    done = _Direction(Measurements(restore if back else None, lpips))
    probed = set(spread(files, SECRETS)) if checks else set()
    for file, real in zip(with_progress(files, len(files), direction), images, strict=True):
        with run.runtime.autocast():
            fake = translator(run.runtime.to_device(real))
        fake_bytes = denormalise(fake).cpu()
        restored = restore(fake) if back is not None else None
        name = file.relative_to(folder)
        if (building / written_name(name)).exists():
            raise UserError(f"{file}: another held-out image is written under its name; rename one")
        write_picture(building / written_name(name), fake_bytes[0].permute(1, 2, 0).numpy())
        true = next(truths) if truths is not None else None
        if true is not None and true.shape[-2:] != real.shape[-2:]:
            raise UserError(f"{file} and its true translation differ in size; use data.fit=stretch")
        alone = done.measured.update(real, normalise(fake_bytes), restored, true)
        if file in probed:
            done.measured.update_secrets(fake.float().cpu(), real)
        back_again, aim = (None if x is None else denormalise(x) for x in (restored, true))
        done.rows.append(Row(str(name), denormalise(real), fake_bytes, back_again, aim, alone))
    shutil.rmtree(finished, ignore_errors=True)  # of an earlier evaluation
    building.rename(finished)
    return done


def _worst_rows(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the worst images of each kind that was measured."""
    figures = [row.figures for row in rows]
    kinds = {"cycle_psnr": False, "structure": False, "truth_psnr": False, "checkerboard": True}
    found = {name: worst(figures, name, WORST, high) for name, high in kinds.items()}
    return {name: [rows[i] for i in indices] for name, indices in found.items() if indices}


def _read(files: Sequence[Path], data: DataConfig, channels: int) -> list[Tensor]:
    return [denormalise(image) for image in held_out(files, data, channels)]


def _training_images(
    data: DataConfig, held_out_files: Mapping[str, Sequence[Path]]
) -> dict[str, tuple[list[Path], list[Tensor]]]:
    """Return training files and images by domain; nothing where they are not on this machine."""
    try:
        split = find_split(data, "train")
    except UserError:
        return {}
    found = {}
    for domain in held_out_files:
        files = split[domain][:TRAINED]
        shown = with_progress(files, len(files), f"training images of {domain}")
        found[domain] = (files, _read(list(shown), data, data.channels_of()[domain]))
    return found


def _prints(
    done: Mapping[str, _Direction], files: Mapping[str, Sequence[Path]],
    trained: Mapping[str, tuple[list[Path], list[Tensor]]], run: Run,
) -> dict[str, Prints]:  # fmt: skip
    found = {
        f"train/{domain}": prints_of(f"train/{domain}", paths, images)
        for domain, (paths, images) in trained.items()
    }
    for direction, one in done.items():
        label = f"test/{run.translators[direction].source}"
        found[label] = prints_of(label, files[run.translators[direction].source], one.sources)
    return found


def write_metrics(run: Run, result: Result, data: DataConfig) -> Path:
    """Write RUN/test/metrics.json: the figures by direction, and the protocol they were measured by."""
    path = run.path / "test" / "metrics.json"
    content = {
        "run": run.path.name, "notes": run.options.method.notes(),
        "directions": result.figures, "intervals": result.intervals,
        "floor": result.floor, "ceiling": result.ceiling, "copies": result.copies, "leaks": result.leaks,
        "protocol": result.protocol, "data": asdict(data),
    }  # fmt: skip
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path
