"""Translate every held-out image in every direction, and measure the translations."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from common.progress import with_progress
from data.config import DataConfig
from data.fingerprint import fingerprint_files
from data.folders import evenly_spaced, find_split, folder_of
from data.ground_truth_pairs import ground_truth_files
from data.samples import load_held_out
from data.tensors import denormalize, normalize
from evaluation.duplicates import Descriptors, copies, image_descriptors, leaks
from evaluation.features import Inception, Lpips
from evaluation.image_metrics import ImageMetrics, worst
from evaluation.results import DirectionResult, EvaluatedImage, EvaluationResult
from evaluation.set_metrics import set_metrics
from evaluation.style_metrics import IMAGES, make_style_sheet, style_metrics
from inference.open_run import Run
from inference.outputs import output_name, write_picture

WORST = 3  # images that the report shows for each kind of worst
STEGANOGRAPHY_IMAGES = 50  # images of the steganography index: each is restored four times
MAX_TRAINING_IMAGES = 2000  # of a domain, for the real baseline and for memorization
TrainingImages = Mapping[str, tuple[list[Path], list[Tensor]]]
"""Domain -> files and uint8 images [1, C, H, W]."""


@dataclass
class _Translated:
    """All images of one direction with their translations."""

    image_metrics: ImageMetrics
    images: list[EvaluatedImage] = field(default_factory=list)

    def sources(self) -> list[Tensor]:
        return [image.real for image in self.images]

    def fakes(self) -> list[Tensor]:
        return [image.fake for image in self.images]


def evaluate(
    run: Run, data: DataConfig, report_images: int, checks: bool = True,
    inception: Inception | None = None, lpips: Lpips | None = None,
) -> EvaluationResult:  # fmt: skip
    """Translate all held-out images, write them to RUN/test/DIRECTION, and return their metrics.

    For each direction: cycle_l1, cycle_psnr and cycle_ssim of the restored image against the input (where
    the run has the inverse direction), truth_psnr and truth_ssim against the true translation (where it
    is known), and copy_psnr, copy_ssim: what the copied input would score. PSNR is computed from the
    pooled squared error on [-1, 1]; fakes are rounded to 8 bits before they are measured. `report_images`
    images of each direction are kept for a report (0 keeps all). With `lpips`, truth_lpips is that
    distance to the truth. `checks` adds the distances between sets with their baselines, faithfulness,
    image defects, memorized training images, and images on both sides of a split.
    """
    files = find_split(data, "test")
    truths = {
        d: paths for d, paths in ground_truth_files(data, files).items() if d in run.translators
    }
    translated = {
        direction: _translate_all(
            run, data, direction, files[translator.source], truths.get(direction), checks, lpips
        )
        for direction, translator in run.translators.items()
    }
    training = _training_images(data, files) if checks else {}
    paired = {d for d in truths if run.translators[d].target in training}
    result = EvaluationResult(_protocol(run, data, files, truths, paired, inception, lpips), {})
    for direction, one in translated.items():
        result.directions[direction] = DirectionResult(
            metrics={"images": len(one.images), **one.image_metrics.result()},
            image_metrics=[(image.name, image.metrics) for image in one.images],
            shown=evenly_spaced(one.images, report_images or len(one.images)),
        )
    if checks:
        descriptors = _describe(translated, files, training, run)
        for direction, one in translated.items():
            reals = _real_images(run, data, files, translated, run.translators[direction].target)
            _add_checks(
                result.directions[direction], run, direction, one, reals, training,
                descriptors, direction in paired, inception,
            )  # fmt: skip
        result.leaks = leaks(list(descriptors.values()))
    return result


def _protocol(
    run: Run, data: DataConfig, files: Mapping[str, Sequence[Path]],
    truths: Mapping[str, Sequence[Path]], paired: set[str],
    inception: Inception | None, lpips: Lpips | None,
) -> dict[str, Any]:  # fmt: skip
    """Return how everything is measured: results with equal protocols can be compared."""
    return {
        "step": run.step, "weights": run.weights, "fit": data.fit, "size": data.crop_size,
        "resize": "OpenCV bicubic, area where it shrinks", "seed": run.options.seed,
        "precision": run.runtime.precision, "device": str(run.runtime.device),
        "images": {domain: len(paths) for domain, paths in files.items()},
        "reference": {
            direction: "training images of the target domain: the held-out ones show the same scenes"
            if direction in paired else "the held-out images of the target domain"
            for direction in run.translators
        }, "fingerprint": fingerprint_files(files),
        "truth": sorted(truths), "features": inception.name if inception else "none",
        "lpips": lpips.name if lpips else "none",
    }  # fmt: skip


def _add_checks(
    result: DirectionResult, run: Run, direction: str, translated: _Translated, reals: list[Tensor],
    training: TrainingImages, descriptors: Mapping[str, Descriptors], paired: bool,
    inception: Inception | None,
) -> None:  # fmt: skip
    """Add set distances, styles, copied training images and the worst images of a direction."""
    target = run.translators[direction].target
    fakes, sources = translated.fakes(), translated.sources()
    trained = training[target][1] if target in training else []
    found = set_metrics(fakes, reals, sources, trained, inception, paired=paired)
    result.metrics |= found.metrics
    result.intervals = translated.image_metrics.intervals() | found.intervals
    result.real_baseline, result.copy_baseline = found.real_baseline, found.copy_baseline
    if found.real_baseline:  # fewer images than fakes make it higher than it should be
        result.real_baseline["images"] = min(len(fakes), len(reals if paired else trained))
    references = [normalize(x) for x in evenly_spaced(reals, IMAGES)]
    inputs = [normalize(x) for x in evenly_spaced(sources, IMAGES)]
    translator = run.translators[direction]
    result.metrics |= style_metrics(translator, inputs, references, run.runtime)
    result.style_sheet = make_style_sheet(translator, inputs, references, run.runtime)
    if f"train/{target}" in descriptors:
        names = [Path(image.name) for image in translated.images]
        nearest = copies(image_descriptors("fakes", names, fakes), descriptors[f"train/{target}"])
        result.metrics["copies"] = sum(copied for _, _, copied in nearest)
        result.copies = sorted(
            ({"fake": image.name, "training image": str(file), "distance": round(distance, 4),
              "a copy": "yes" if copied else "no"}
             for image, (distance, file, copied) in zip(translated.images, nearest, strict=True)),
            key=lambda row: row["distance"],
        )[:5]  # fmt: skip
    result.worst = _worst_images(translated.images)


@torch.no_grad()
def _translate_all(
    run: Run, data: DataConfig, direction: str, files: Sequence[Path],
    truth_files: Sequence[Path] | None, checks: bool, lpips: Lpips | None,
) -> _Translated:  # fmt: skip
    """Translate the held-out images of a direction into RUN/test/DIRECTION and measure each."""
    translator = run.translators[direction]
    folder = folder_of(data, "test", translator.source)
    inverse = run.translators.get(f"{translator.target}_to_{translator.source}")

    def restore(fake: Tensor) -> Tensor:
        assert inverse is not None
        with run.runtime.autocast():
            return inverse(run.runtime.to_device(fake.float())).float().cpu()

    channels = data.channels_of()
    truths = load_held_out(truth_files, data, channels[translator.target]) if truth_files else None
    images = load_held_out(files, data, channels[translator.source])
    finished = run.path / "test" / direction
    partial = finished.with_name(f"{direction}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    done = _Translated(ImageMetrics(restore if inverse else None, lpips))
    probed = set(evenly_spaced(files, STEGANOGRAPHY_IMAGES)) if checks else set()
    for file, real in zip(with_progress(files, len(files), direction), images, strict=True):
        with run.runtime.autocast():
            fake = translator(run.runtime.to_device(real))
        fake_bytes = denormalize(fake).cpu()
        restored = restore(fake) if inverse is not None else None
        name = file.relative_to(folder)
        if (partial / output_name(name)).exists():
            raise UserError(
                f"{file}: another held-out image is written under its name; rename one", path=file
            )
        write_picture(partial / output_name(name), fake_bytes[0].permute(1, 2, 0).numpy())
        true = next(truths) if truths is not None else None
        if true is not None and true.shape[-2:] != real.shape[-2:]:
            raise UserError(
                f"{file} and its true translation differ in size; use data.fit=stretch",
                path=file, option="data.fit",
            )  # fmt: skip
        metrics = done.image_metrics.update(real, normalize(fake_bytes), restored, true)
        if file in probed:
            done.image_metrics.update_steganography(fake.float().cpu(), real)
        restored_bytes, truth = (None if x is None else denormalize(x) for x in (restored, true))
        done.images.append(
            EvaluatedImage(str(name), denormalize(real), fake_bytes, restored_bytes, truth, metrics)
        )
    shutil.rmtree(finished, ignore_errors=True)  # of an earlier evaluation
    partial.rename(finished)
    return done


def _worst_images(images: list[EvaluatedImage]) -> dict[str, list[EvaluatedImage]]:
    """Return metric -> the worst images by it, for the metrics that were measured."""
    metrics = [image.metrics for image in images]
    kinds = {"cycle_psnr": False, "structure": False, "truth_psnr": False, "checkerboard": True}
    found = {name: worst(metrics, name, WORST, high) for name, high in kinds.items()}
    return {name: [images[i] for i in indices] for name, indices in found.items() if indices}


def _real_images(
    run: Run, data: DataConfig, files: Mapping[str, Sequence[Path]],
    translated: Mapping[str, _Translated], domain: str,
) -> list[Tensor]:  # fmt: skip
    """Return the held-out images of a domain, uint8; those that were translated are in memory already."""
    for direction, one in translated.items():
        if run.translators[direction].source == domain:
            return one.sources()
    return _read(files[domain], data, data.channels_of()[domain])


def _read(files: Sequence[Path], data: DataConfig, channels: int) -> list[Tensor]:
    return [denormalize(image) for image in load_held_out(files, data, channels)]


def _training_images(data: DataConfig, test_files: Mapping[str, Sequence[Path]]) -> TrainingImages:
    """Return training files and images by domain; nothing where they are not on this machine."""
    try:
        split = find_split(data, "train")
    except UserError:
        return {}
    found = {}
    for domain in test_files:
        files = split[domain][:MAX_TRAINING_IMAGES]
        shown = with_progress(files, len(files), f"training images of {domain}")
        found[domain] = (files, _read(list(shown), data, data.channels_of()[domain]))
    return found


def _describe(
    translated: Mapping[str, _Translated], files: Mapping[str, Sequence[Path]],
    training: TrainingImages, run: Run,
) -> dict[str, Descriptors]:  # fmt: skip
    """Return "train/DOMAIN" and "test/DOMAIN" -> the descriptors of their images."""
    found = {
        f"train/{domain}": image_descriptors(f"train/{domain}", paths, images)
        for domain, (paths, images) in training.items()
    }
    for direction, one in translated.items():
        domain = run.translators[direction].source
        label = f"test/{domain}"
        found[label] = image_descriptors(label, files[domain], one.sources())
    return found
