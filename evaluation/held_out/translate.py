"""Translate the held-out images of one direction, one after the other, and measure each."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from data.config import DataConfig
from data.folders import evenly_spaced, folder_of
from data.tensors import denormalize, normalize, to_pixels, to_tensor
from evaluation.held_out.choose_images import HeldOut
from evaluation.held_out.output_folders import check_replaceable, make_empty_folder, replace_folder
from evaluation.held_out.read_images import SkippedFiles, read_ahead, read_image
from evaluation.image_metrics import ImageMetrics
from evaluation.image_sets import DescribedImages
from evaluation.pretrained_networks import Lpips
from evaluation.results import EvaluatedImage
from inference.open_run import Run
from inference.outputs import like_input, lossless_names, write_picture
from inference.picture_translator import to_image

WORST_IMAGES = 3  # that the report shows for each metric
# Metric -> whether its highest values are the worst.
WORST_IS_HIGHEST = {
    "cycle_psnr": False, "structure": False, "truth_psnr": False, "checkerboard": True,
}  # fmt: skip
STEGANOGRAPHY_IMAGES = 50  # for the steganography index, which restores each of them four times


class WorstImages:
    """The images with the worst values of some metrics."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[float, int, EvaluatedImage]]] = {}
        self._count = 0

    def add(self, image: EvaluatedImage) -> None:
        """Keep an image if it is among the worst by any metric."""
        self._count += 1
        for name, highest in WORST_IS_HIGHEST.items():
            value = image.metrics.get(name)
            if value is not None:
                heap = self._heaps.setdefault(name, [])
                heapq.heappush(heap, (value if highest else -value, -self._count, image))
                if len(heap) > WORST_IMAGES:
                    heapq.heappop(heap)

    def by_metric(self) -> dict[str, list[EvaluatedImage]]:
        """Return metric -> its worst images, the worst first."""
        return {
            name: [image for *_, image in sorted(self._heaps[name], key=lambda x: x[:2], reverse=True)]
            for name in WORST_IS_HIGHEST if name in self._heaps
        }  # fmt: skip


@dataclass
class TranslatedImages:
    """What remains of the translated images of one direction: metrics, descriptors, a few images."""

    image_metrics: ImageMetrics
    fakes: DescribedImages | None  # without checks, None
    files: list[Path] = field(default_factory=list)  # that were evaluated
    rows: list[tuple[str, dict[str, float | None]]] = field(default_factory=list)  # name, metrics
    shown: list[EvaluatedImage] = field(default_factory=list)
    worst: WorstImages = field(default_factory=WorstImages)


class HeldOutTranslator:
    """Translates the held-out images of a direction into RUN/test/DIRECTION."""

    def __init__(
        self, run: Run, data: DataConfig, direction: str, split: HeldOut, lpips: Lpips | None,
        skipped: SkippedFiles,
    ) -> None:  # fmt: skip
        self.run, self.data, self.direction, self.skipped = run, data, direction, skipped
        self.translator = run.translators[direction]
        source, target = self.translator.source, self.translator.target
        self.folder = folder_of(data, "test" if split == "test" else "train", source)
        self.source_form, self.form = (data.formats()[domain] for domain in (source, target))
        self.inverse = run.translators.get(f"{target}_to_{source}")
        self.lpips = lpips

    @torch.no_grad()
    def translate(
        self, files: Sequence[Path], truths: Sequence[Path] | None, report_images: int,
        fakes: DescribedImages | None, sources: DescribedImages | None,
    ) -> TranslatedImages:  # fmt: skip
        """Translate files, whose true translations are `truths` where they are known.

        The folder replaces that of an earlier evaluation once all images are written. The
        translations are added to `fakes`, and the images to `sources`, where these are sets.
        """
        output = self.run.path / "test" / self.direction
        partial = output.with_name(f"{self.direction}.partial")
        check_replaceable(output)
        make_empty_folder(partial)
        truth_of = dict(zip(files, truths, strict=True)) if truths else {}
        names = lossless_names(files, self.folder, self.form)
        shown = set(evenly_spaced(files, report_images or len(files)))
        steganography = set(evenly_spaced(files, STEGANOGRAPHY_IMAGES)) if fakes is not None else ()
        restore = self._restore if self.inverse is not None else None
        done = TranslatedImages(ImageMetrics(restore, self.lpips, self.form.span), fakes)
        images = read_ahead(files, self.data, self.source_form, self.skipped, self.direction)
        for file, real in images:
            truth = self._truth(truth_of[file], file, real) if file in truth_of else None
            if truth is None and file in truth_of:
                continue
            out, hidden = partial / names[file], file in steganography
            evaluated = self._evaluate(file, real, truth, out, done.image_metrics, hidden)
            if evaluated is None:
                continue
            image, fake = evaluated
            done.files.append(file)
            done.rows.append((image.name, image.metrics))
            done.worst.add(image)
            if file in shown:
                done.shown.append(image)
            if sources is not None:
                sources.add(file, real)
            if fakes is not None:
                fakes.add(file, fake)
        replace_folder(partial, output)
        return done

    def _evaluate(
        self, file: Path, real: Tensor, truth: Tensor | None, out: Path, metrics: ImageMetrics,
        in_steganography: bool,
    ) -> tuple[EvaluatedImage, Tensor] | None:  # fmt: skip
        """Translate, write and measure an image; None, reported, where that is not possible.

        The tensor is the translation in [-1, 1] as a reader of the file sees it.
        """
        runtime = self.run.runtime
        with runtime.autocast():
            fake = self.translator(runtime.to_device(real)).float()
        restored = self._restore(fake) if self.inverse is not None else None
        fake = fake.cpu()
        if not torch.isfinite(fake).all():
            self.skipped.add(file, UserError(f"{file}: its translation has NaN or infinite values"))
            return None
        pixels = to_pixels(fake, self.form.has_range)[0].permute(1, 2, 0).numpy()
        saved = self.form.to_values(pixels) if self.form.has_range else pixels
        try:
            self._write(out, saved, file)
        except UserError as error:
            self.skipped.add(file, error)
            return None
        seen = normalize(
            to_tensor(self.form.to_unit(saved) if self.form.has_range else saved)[None]
        )
        row = metrics.update(real, seen, restored, truth)
        if in_steganography:
            metrics.update_steganography(fake, real)
        image = EvaluatedImage(
            str(file.relative_to(self.folder)), denormalize(real), denormalize(fake),
            None if restored is None else denormalize(restored),
            None if truth is None else denormalize(truth), row,
        )  # fmt: skip
        return image, seen

    def _write(self, out: Path, saved: np.ndarray, file: Path) -> None:
        if self.form.has_range or self.form.channels > 4:
            write_picture(out, like_input(saved, file, self.translator.in_channels))
        else:
            write_picture(out, to_image(saved))

    def _restore(self, fake: Tensor) -> Tensor:
        assert self.inverse is not None
        with self.run.runtime.autocast():
            return self.inverse(self.run.runtime.to_device(fake.float())).float().cpu()

    def _truth(self, path: Path, file: Path, real: Tensor) -> Tensor | None:
        """Return the true translation of a file; None, reported, where it cannot be read."""
        truth = read_image(path, self.data, self.form)
        if isinstance(truth, UserError):
            self.skipped.add(path, truth)
            return None
        if truth.shape[-2:] != real.shape[-2:]:
            raise UserError(
                f"{file} and its true translation differ in size; use data.fit=stretch",
                path=file, option="data.fit",
            )  # fmt: skip
        return truth
