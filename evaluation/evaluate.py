"""Translate every held-out image in every direction, and measure the translations."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from common.errors import UserError
from common.progress import with_progress
from data.config import DataConfig
from data.fingerprint import fingerprint_files
from data.folders import evenly_spaced, find_split, folder_of
from data.ground_truth_pairs import ground_truth_files
from data.tensors import denormalize, normalize, to_pixels, to_tensor
from data.values.raw_values import file_format
from evaluation.copies_and_leaks import (
    Descriptors,
    find_leaks,
    image_descriptors,
    nearest_training_images,
)
from evaluation.evaluation_images import TrainingImages, recorded_validation, training_images
from evaluation.image_metrics import ImageMetrics, worst_indices
from evaluation.output_folders import check_replaceable, make_empty_folder, replace_folder
from evaluation.pretrained_networks import Inception, Lpips
from evaluation.results import DirectionResult, EvaluatedImage, EvaluationResult
from evaluation.set_metrics import set_metrics
from evaluation.skipped_files import SkippedFiles, read_images
from evaluation.style_metrics import MAX_IMAGES, make_style_sheet, style_metrics
from inference.open_run import Run
from inference.outputs import like_input, output_name, write_picture
from inference.picture_translator import to_image

WORST_IMAGES = 3  # that the report shows for each metric
# Metric -> whether its highest values are the worst.
WORST_IS_HIGHEST = {
    "cycle_psnr": False, "structure": False, "truth_psnr": False, "checkerboard": True,
}  # fmt: skip
STEGANOGRAPHY_IMAGES = 50  # for the steganography index, which restores each of them four times
NEAREST_SHOWN = 5  # of the fakes that are nearest to a training image
HeldOut = Literal["test", "validation"]


@dataclass
class _TranslatedImages:
    """The held-out images of one direction, their translations and metrics."""

    image_metrics: ImageMetrics
    images: list[EvaluatedImage] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)  # of the images

    def sources(self) -> list[Tensor]:
        return [image.real for image in self.images]

    def fakes(self) -> list[Tensor]:
        return [image.fake for image in self.images]


def evaluate(
    run: Run, data: DataConfig, report_images: int, checks: bool = True,
    inception: Inception | None = None, lpips: Lpips | None = None, split: HeldOut = "test",
) -> EvaluationResult:  # fmt: skip
    """Translate all held-out images, write them to RUN/test/DIRECTION, and return their metrics.

    For each direction: cycle_l1, cycle_psnr and cycle_ssim of the restored image against the input
    (where the run has the inverse direction), truth_psnr and truth_ssim against the true
    translation (where it is known), and copy_psnr, copy_ssim: the same for the input copied. PSNR
    is computed from the pooled squared error on [-1, 1]; fakes are measured as they are saved,
    rounded to 8 bits or to the type of the target domain. Where that has a range, truth_mae is the
    mean absolute error in its units. `report_images` is the number of images of each direction in
    the result, for a report (0: all). With `lpips`, truth_lpips is that distance to the truth.
    `checks` adds the distances between sets with their baselines, faithfulness, image defects,
    memorized training images, and images on both sides of a split. With `split` validation, the
    held-out images are those that data.validation kept from training.

    A file that cannot be read or written is reported, passed over, and named in `skipped` of the
    result. UserError where held-out images are missing, none can be read, two would be written to
    one file, or an image and its true translation differ in size.
    """
    files = find_split(data, "test") if split == "test" else recorded_validation(run, data)
    known_truths = ground_truth_files(data, files) if split == "test" else {}
    truths = {d: paths for d, paths in known_truths.items() if d in run.translators}
    skipped = SkippedFiles()
    translated = {
        direction: _translate_all(
            run,
            data,
            direction,
            files[translator.source],
            truths.get(direction),
            checks,
            lpips,
            skipped,
            split,
        )
        for direction, translator in run.translators.items()
    }
    if any(not done.images for done in translated.values()):
        first = next(iter(skipped.reasons.values()))
        raise UserError(f"none of the held-out images could be evaluated: {first}")
    training = training_images(run, data, files, skipped) if checks else {}
    paired = {d for d in truths if run.translators[d].target in training}
    evaluated = {run.translators[d].source: done.files for d, done in translated.items()}
    counted = {domain: evaluated.get(domain, paths) for domain, paths in files.items()}
    protocol = _protocol(run, data, counted, truths, paired, inception, lpips)
    if split == "validation":
        protocol["held_out"] = f"data.validation={data.validation} of the training images"
    result = EvaluationResult(protocol, {})
    result.skipped = {str(file): reason for file, reason in skipped.reasons.items()}
    for direction, done in translated.items():
        result.directions[direction] = DirectionResult(
            metrics={"images": len(done.images), **done.image_metrics.result()},
            image_metrics=[(image.name, image.metrics) for image in done.images],
            shown=evenly_spaced(done.images, report_images or len(done.images)),
        )
    if checks:
        descriptors = _descriptors(translated, training, run)
        for direction, done in translated.items():
            target = run.translators[direction].target
            reals = _held_out_images(run, data, files, translated, target, skipped)
            _add_checks(
                result.directions[direction], run, direction, done, reals, training,
                descriptors, direction in paired, inception,
            )  # fmt: skip
        result.leaks = find_leaks(list(descriptors.values()))
    return result


def _protocol(
    run: Run, data: DataConfig, files: Mapping[str, Sequence[Path]],
    truths: Mapping[str, Sequence[Path]], paired: set[str],
    inception: Inception | None, lpips: Lpips | None,
) -> dict[str, Any]:  # fmt: skip
    """Return how the metrics are measured; metrics of equal protocols can be compared."""
    return {
        "step": run.step, "weights": run.weights, "fit": data.fit, "size": data.crop_size,
        "resize": "OpenCV bicubic, area where it shrinks", "seed": run.options.seed,
        "precision": run.runtime.precision, "device": str(run.runtime.device),
        "images": {domain: len(paths) for domain, paths in files.items()},
        "reference": {
            direction: "training images of the target domain: the held-out ones show the same "
            "scenes" if direction in paired else "the held-out images of the target domain"
            for direction in run.translators
        }, "fingerprint": fingerprint_files(files),
        "truth": sorted(truths), "features": inception.name if inception else "none",
        "lpips": lpips.name if lpips else "none",
    }  # fmt: skip


def _add_checks(
    result: DirectionResult, run: Run, direction: str, translated: _TranslatedImages,
    reals: list[Tensor], training: TrainingImages, descriptors: Mapping[str, Descriptors],
    paired: bool, inception: Inception | None,
) -> None:  # fmt: skip
    """Add set distances, style metrics, copied training images and the worst images to `result`."""
    target = run.translators[direction].target
    fakes, sources = translated.fakes(), translated.sources()
    trained = training[target][1] if target in training else []
    sets = set_metrics(fakes, reals, sources, trained, inception, paired=paired)
    result.metrics |= sets.metrics
    result.intervals = translated.image_metrics.intervals() | sets.intervals
    result.real_baseline, result.copy_baseline = sets.real_baseline, sets.copy_baseline
    if sets.real_baseline:  # of fewer images than there are fakes, it is higher than it should be
        result.real_baseline["images"] = min(len(fakes), len(reals if paired else trained))
    references = [normalize(x) for x in evenly_spaced(reals, MAX_IMAGES)]
    inputs = [normalize(x) for x in evenly_spaced(sources, MAX_IMAGES)]
    translator = run.translators[direction]
    result.metrics |= style_metrics(translator, inputs, references, run.runtime)
    result.style_sheet = make_style_sheet(translator, inputs, references, run.runtime)
    if f"train/{target}" in descriptors:
        names = [Path(image.name) for image in translated.images]
        nearest = nearest_training_images(
            image_descriptors("fakes", names, fakes), descriptors[f"train/{target}"]
        )
        result.metrics["copies"] = sum(is_copy for _, _, is_copy in nearest)
        result.copies = sorted(
            ({"fake": image.name, "training image": str(file), "distance": round(distance, 4),
              "a copy": "yes" if is_copy else "no"}
             for image, (distance, file, is_copy) in zip(translated.images, nearest, strict=True)),
            key=lambda row: row["distance"],
        )[:NEAREST_SHOWN]  # fmt: skip
    result.worst = _worst_images(translated.images)


@torch.no_grad()
def _translate_all(
    run: Run, data: DataConfig, direction: str, files: Sequence[Path],
    truth_files: Sequence[Path] | None, checks: bool, lpips: Lpips | None, skipped: SkippedFiles,
    split: HeldOut,
) -> _TranslatedImages:  # fmt: skip
    """Translate the held-out images of a direction into RUN/test/DIRECTION and measure each.

    The folder replaces that of an earlier evaluation once all images are written.
    """
    translator = run.translators[direction]
    folder = folder_of(data, "test" if split == "test" else "train", translator.source)
    inverse = run.translators.get(f"{translator.target}_to_{translator.source}")

    def restore(fake: Tensor) -> Tensor:
        assert inverse is not None
        with run.runtime.autocast():
            return inverse(run.runtime.to_device(fake.float())).float().cpu()

    formats = data.formats()
    target = formats[translator.target]
    truth_of = dict(zip(files, truth_files, strict=True)) if truth_files else {}
    output = run.path / "test" / direction
    partial = output.with_name(f"{direction}.partial")
    check_replaceable(output)
    make_empty_folder(partial)
    translated = _TranslatedImages(ImageMetrics(restore if inverse else None, lpips, target.span))
    steganography_files = set(evenly_spaced(files, STEGANOGRAPHY_IMAGES)) if checks else set()
    for file in with_progress(files, len(files), direction):
        real = skipped.read(file, data, formats[translator.source])
        truth = skipped.read(truth_of[file], data, target) if file in truth_of else None
        if real is None or (truth is None and file in truth_of):
            continue
        with run.runtime.autocast():
            fake = translator(run.runtime.to_device(real))
        fake_bytes = denormalize(fake).cpu()
        pixels = to_pixels(fake, target.has_range).cpu()[0].permute(1, 2, 0).numpy()
        saved = target.to_values(pixels) if target.has_range else pixels
        # As a reader of the file would see it: rounded to its type.
        seen = target.to_unit(saved) if target.has_range else saved
        restored = restore(fake) if inverse is not None else None
        name = file.relative_to(folder)
        out = partial / output_name(name, target)
        if os.path.exists(out):  # unlike Path.exists, false for a name that is too long
            raise UserError(
                f"{file} and another held-out image would be written to the same file; rename one",
                path=file,
            )
        is_array = out.suffix.lower() == ".npy" or not file_format(file).is_picture
        try:
            write_picture(
                out, like_input(saved, file, translator.in_channels)
                if target.has_range or is_array else to_image(saved),
            )  # fmt: skip
        except UserError as error:
            skipped.add(file, error)
            continue
        if truth is not None and truth.shape[-2:] != real.shape[-2:]:
            raise UserError(
                f"{file} and its true translation differ in size; use data.fit=stretch",
                path=file, option="data.fit",
            )  # fmt: skip
        metrics = translated.image_metrics.update(
            real, normalize(to_tensor(seen)[None]), restored, truth
        )
        if file in steganography_files:
            translated.image_metrics.update_steganography(fake.float().cpu(), real)
        translated.files.append(file)
        translated.images.append(
            EvaluatedImage(
                str(name), denormalize(real), fake_bytes,
                None if restored is None else denormalize(restored),
                None if truth is None else denormalize(truth), metrics,
            )
        )  # fmt: skip
    replace_folder(partial, output)
    return translated


def _worst_images(images: list[EvaluatedImage]) -> dict[str, list[EvaluatedImage]]:
    """Return metric -> the worst images by it, for the metrics that were measured."""
    metrics = [image.metrics for image in images]
    worst = {
        name: worst_indices(metrics, name, WORST_IMAGES, highest)
        for name, highest in WORST_IS_HIGHEST.items()
    }
    return {name: [images[i] for i in indices] for name, indices in worst.items() if indices}


def _held_out_images(
    run: Run, data: DataConfig, files: Mapping[str, Sequence[Path]],
    translated: Mapping[str, _TranslatedImages], domain: str, skipped: SkippedFiles,
) -> list[Tensor]:  # fmt: skip
    """Return the held-out images of a domain, uint8; they are only read if not translated yet."""
    for direction, done in translated.items():
        if run.translators[direction].source == domain:
            return done.sources()
    return read_images(files[domain], data, domain, skipped)[1]


def _descriptors(
    translated: Mapping[str, _TranslatedImages], training: TrainingImages, run: Run
) -> dict[str, Descriptors]:  # fmt: skip
    """Return "train/DOMAIN" and "test/DOMAIN" -> the descriptors of their images."""
    descriptors = {
        f"train/{domain}": image_descriptors(f"train/{domain}", paths, images)
        for domain, (paths, images) in training.items()
    }
    for direction, done in translated.items():
        domain = run.translators[direction].source
        label = f"test/{domain}"
        descriptors[label] = image_descriptors(label, done.files, done.sources())
    return descriptors
