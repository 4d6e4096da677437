"""Translate every held-out image in every direction, and measure the translations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from common.errors import UserError
from data.config import DataConfig
from data.fingerprint import fingerprint_files
from data.folders import evenly_spaced
from data.ground_truth_pairs import ground_truth_files
from data.samples import load_held_out
from evaluation.copies_and_leaks import find_leaks, nearest_training_images
from evaluation.held_out.choose_images import (
    Files,
    HeldOut,
    held_out_files,
    smallest_side,
    training_files,
)
from evaluation.held_out.read_images import SkippedFiles, describe_files
from evaluation.held_out.translate import HeldOutTranslator, TranslatedImages
from evaluation.image_sets import (
    MAX_PATCH_IMAGES,
    CopyIndex,
    DescribedImages,
    Description,
    ImageSet,
)
from evaluation.pretrained_networks import Inception, Lpips
from evaluation.results import DirectionResult, EvaluationResult
from evaluation.set_metrics import set_metrics
from evaluation.style_metrics import MAX_IMAGES, make_style_sheet, style_metrics
from inference.open_run import Run
from models.translator import StyledTranslator

DEFINITIONS = 2  # of the metrics: figures of another number cannot be compared
NEAREST_SHOWN = 5  # of the fakes that are nearest to a training image


def evaluate(
    run: Run, data: DataConfig, report_images: int, checks: bool = True,
    inception: Inception | None = None, lpips: Lpips | None = None, split: HeldOut = "test",
    direction: str = "",
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
    held-out images are those that data.validation kept from training. `direction` evaluates one
    direction alone.

    Images pass through one after the other; what is remembered of each is in `ImageSet`. A domain
    without held-out images is not translated, and the training images are the reference of
    translations into it.

    A file that cannot be read, translated or written is reported, passed over, and named in
    `skipped` of the result. UserError where held-out images are missing, none can be read, or an
    image and its true translation differ in size.
    """
    evaluation = _Evaluation(run, data, split, direction, checks, inception, lpips)
    for name in evaluation.directions:
        evaluation.translate(name, report_images)
    return evaluation.result()


class _Evaluation:
    """The files, descriptors and results of one evaluation."""

    def __init__(
        self, run: Run, data: DataConfig, split: HeldOut, direction: str, checks: bool,
        inception: Inception | None, lpips: Lpips | None,
    ) -> None:  # fmt: skip
        self.run, self.data, self.checks = run, data, checks
        self.split: HeldOut = split
        self.inception, self.lpips = inception, lpips
        self.files: Files = held_out_files(run, data, split)
        self.directions = self._directions(direction)
        self.truths = self._true_translations()
        self.training = training_files(run, data) if checks else {}
        every = [
            file for files in (*self.files.values(), *self.training.values()) for file in files
        ]
        self.description = Description(smallest_side(data, every), inception)
        self.skipped = SkippedFiles()
        self.sets: dict[str, DescribedImages] = {}  # by label, such as test/photo
        self.translated: dict[str, TranslatedImages] = {}

    def _directions(self, wanted: str) -> list[str]:
        """Return the directions whose source has held-out images; UserError if there is none."""
        translators = self.run.translators
        if wanted and wanted not in translators:
            raise UserError(
                f"direction={wanted} does not exist; this run has {' and '.join(translators)}",
                option="direction",
            )
        possible = [name for name, each in translators.items() if each.source in self.files]
        chosen = [name for name in possible if wanted in ("", name)]
        if not chosen:
            source = (
                translators[wanted].source if wanted else next(iter(translators.values())).source
            )
            raise UserError(
                f"no held-out images of {source}; name them with data.test.{source}=FOLDER",
                option=f"data.test.{source}",
            )
        return chosen

    def _true_translations(self) -> dict[str, Sequence[Path]]:
        if self.split != "test" or set(self.files) != set(self.data.domains):
            return {}
        known = ground_truth_files(self.data, self.files)
        return {name: files for name, files in known.items() if name in self.directions}

    def _new_set(
        self, label: str, files: Sequence[Path], compared: Sequence[Path] | None = None
    ) -> DescribedImages:
        """Return an empty set for `files`, of which those in `compared` (None: all) are compared."""
        with_patches = evenly_spaced(files if compared is None else compared, MAX_PATCH_IMAGES)
        return DescribedImages(
            ImageSet(self.description, set(with_patches)), CopyIndex(label),
            None if compared is None else set(compared),
        )  # fmt: skip

    def translate(self, name: str, report_images: int) -> None:
        """Translate the held-out images of a direction, and describe them."""
        source = self.run.translators[name].source
        files, label = self.files[source], f"test/{source}"
        fakes = self._new_set("fakes", files) if self.checks else None
        # A domain with two directions is described in the first.
        sources = self._new_set(label, files) if self.checks and label not in self.sets else None
        translator = HeldOutTranslator(
            self.run, self.data, name, self.split, self.lpips, self.skipped
        )
        done = translator.translate(files, self.truths.get(name), report_images, fakes, sources)
        self.translated[name] = done
        if sources is not None:
            self.sets[label] = sources

    def result(self) -> EvaluationResult:
        """Describe the other images, compare the sets, and return all results."""
        if any(not done.files for done in self.translated.values()):
            first = next(iter(self.skipped.reasons.values()))
            raise UserError(f"none of the held-out images could be evaluated: {first}")
        if self.checks:
            self._describe_references()
        result = EvaluationResult(self._protocol(), {})
        for name, done in self.translated.items():
            direction = DirectionResult(
                metrics={"images": len(done.files), **done.image_metrics.result()},
                image_metrics=done.rows, shown=done.shown, protocol=self._direction_protocol(name),
                intervals=done.image_metrics.intervals(),
            )  # fmt: skip
            result.directions[name] = direction
            if self.checks:
                self._add_checks(direction, name, done)
        if self.checks:
            result.leaks = find_leaks([each.index for each in self.sets.values()])
        result.skipped = {str(file): reason for file, reason in self.skipped.reasons.items()}
        return result

    def _describe_references(self) -> None:
        """Describe the training images, and held-out images of domains that were not translated."""
        targets = {self.run.translators[name].target for name in self.directions}
        for domain, files in self.files.items():
            if domain in targets and f"test/{domain}" not in self.sets:
                self._describe(f"test/{domain}", "held-out images", domain, files, None)
        for domain, files in self.training.items():
            if domain in targets or f"test/{domain}" in self.sets:
                compared = self._compared_training_images(domain, files)
                self._describe(f"train/{domain}", "training images", domain, files, compared)

    def _compared_training_images(
        self, domain: str, files: Sequence[Path]
    ) -> Sequence[Path] | None:
        """Return the training images for the real baseline, as many as fakes; None: all of them.

        All are compared where they are the reference.
        """
        into = [name for name in self.directions if self.run.translators[name].target == domain]
        if domain not in self.files or any(name in self.truths for name in into):
            return None
        return evenly_spaced(files, max((len(self.translated[n].files) for n in into), default=0))

    def _describe(
        self, label: str, kind: str, domain: str, files: Sequence[Path],
        compared: Sequence[Path] | None,
    ) -> None:  # fmt: skip
        self.sets[label] = describe_files(
            self._new_set(label, files, compared), files, self.data, domain, self.skipped,
            f"{kind} of {domain}",
        )  # fmt: skip

    def _set(self, label: str) -> DescribedImages:
        return self.sets.get(label) or DescribedImages(ImageSet(self.description), CopyIndex(label))

    def _is_paired(self, name: str) -> bool:
        trained = self._set(f"train/{self.run.translators[name].target}")
        return name in self.truths and len(trained.index) > 1

    def _add_checks(self, result: DirectionResult, name: str, done: TranslatedImages) -> None:
        """Add set distances, style metrics, copied training images and the worst images."""
        translator, fakes = self.run.translators[name], done.fakes
        assert fakes is not None
        reals, trained = (self._set(f"{kind}/{translator.target}") for kind in ("test", "train"))
        sources = self._set(f"test/{translator.source}").images
        if len(sources) > len(done.files):  # a file could be read and not written
            kept = set(done.files)
            sources = sources.rows([n for n, file in enumerate(sources.files) if file in kept])
        paired = self._is_paired(name)
        sets = set_metrics(
            fakes.images, reals.images, sources, trained.images, paired, trained.index.features
        )
        result.metrics |= sets.metrics
        result.intervals |= sets.intervals
        result.notes += sets.notes
        result.real_baseline, result.copy_baseline = sets.real_baseline, sets.copy_baseline
        if sets.real_baseline:
            others = reals if paired else trained
            # Of fewer images than there are fakes, it is higher than it should be.
            result.real_baseline["images"] = min(len(done.files), len(others.images))
        if isinstance(translator, StyledTranslator):
            inputs = self._some(sources.files, translator.source)
            references = self._some(reals.index.files or trained.index.files, translator.target)
            result.metrics |= style_metrics(translator, inputs, references, self.run.runtime)
            result.style_sheet = make_style_sheet(translator, inputs, references, self.run.runtime)
        if trained.index.files and trained.index.channels == fakes.index.channels:
            nearest = nearest_training_images(fakes.index, trained.index)
            result.metrics["copies"] = sum(is_copy for _, _, is_copy in nearest)
            result.copies = sorted(
                ({"fake": row[0], "training image": str(file), "distance": round(distance, 4),
                  "a copy": "yes" if is_copy else "no"}
                 for row, (distance, file, is_copy) in zip(done.rows, nearest, strict=True)),
                key=lambda row: row["distance"],
            )[:NEAREST_SHOWN]  # fmt: skip
        result.worst = done.worst.by_metric()

    def _some(self, files: Sequence[Path], domain: str) -> list[Tensor]:
        """Return a few evenly spaced images of a domain, [1, C, H, W] in [-1, 1]."""
        form = self.data.formats()[domain]
        return list(load_held_out(evenly_spaced(files, MAX_IMAGES), self.data, form))

    def _protocol(self) -> dict[str, Any]:
        """Return how all metrics are measured; metrics of equal protocols can be compared."""
        run, data = self.run, self.data
        protocol: dict[str, Any] = {
            "definitions": DEFINITIONS, "step": run.step, "weights": run.weights, "fit": data.fit,
            "size": data.crop_size, "resize": "OpenCV bicubic, area where it shrinks",
            "seed": run.options.seed, "precision": run.runtime.precision,
            "device": str(run.runtime.device),
            "features": self.inception.name if self.inception else "none",
            "lpips": self.lpips.name if self.lpips else "none",
        }  # fmt: skip
        if self.split == "validation":
            protocol["held_out"] = f"data.validation={data.validation} of the training images"
        return protocol

    def _direction_protocol(self, name: str) -> dict[str, Any]:
        """Return what belongs to one direction: its images, and what they are compared with."""
        translator = self.run.translators[name]
        files: Mapping[str, Sequence[Path]] = {translator.source: self.translated[name].files}
        reals = self._set(f"test/{translator.target}").index.files
        files |= {translator.target: reals or self.files.get(translator.target, [])}
        if self._is_paired(name):
            reference = (
                "training images of the target domain: the held-out ones show the same scenes"
            )
        elif translator.target in self.files:
            reference = "the held-out images of the target domain"
        else:
            reference = "training images of the target domain: none of them is held out"
            files |= {translator.target: self._set(f"train/{translator.target}").index.files}
        return {
            "images": {domain: len(paths) for domain, paths in files.items()},
            "reference": reference, "fingerprint": fingerprint_files(files),
            "truth": name in self.truths,
        }  # fmt: skip
