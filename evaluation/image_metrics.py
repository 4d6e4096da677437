"""Compute the metrics of each translated image, and their means over all images."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from metrics.bootstrap import FEWEST, interval
from metrics.color_difference import mean_ciede2000
from metrics.distortion import PSNR_RANGE, Distortion
from metrics.faithfulness import Steganography, edge_agreement, structure_agreement
from metrics.image_defects import checkerboard, color_inversion, dead_tiles
from metrics.structural_similarity import ms_ssim

MIN_SIDE = 32  # pixels that the spectrum of the checkerboard metric needs


class ImageMetrics:
    """Collect the per-image metrics of one direction, with their 95 % bootstrap intervals.

    `update` takes an image and its translations, floats [1, C, H, W] in [-1, 1], and returns that
    image's metrics; `result` returns the metrics over all images, `intervals` their intervals.
    `inverse` maps a fake to its restored input (None without the inverse direction); `perceptual`
    is a distance of two images (LPIPS), None where it cannot be computed. `span` is the difference of
    white and black in the units of the target domain (None for 8-bit pictures), for `truth_mae`.
    """

    def __init__(
        self, inverse: Callable[[Tensor], Tensor] | None,
        perceptual: Callable[[Tensor, Tensor], float | None] | None = None,
        span: float | None = None,
    ) -> None:  # fmt: skip
        self.pooled = {"cycle": Distortion(), "truth": Distortion(), "copy": Distortion()}
        self.steganography = None if inverse is None else Steganography(inverse)
        self.perceptual = perceptual
        self.span = span
        self.steganography_images = 0  # number of images in the index
        self.rows: list[dict[str, float | None]] = []

    def update(
        self, real: Tensor, fake: Tensor, restored: Tensor | None, truth: Tensor | None
    ) -> dict[str, float | None]:
        """Add one image and return its metrics.

        `fake` is rounded as it is saved, `restored` is computed from the fake before rounding.
        """
        row: dict[str, float | None] = {}
        if restored is not None:
            row |= _prefixed("cycle", self.pooled["cycle"].update(restored, real))
        if truth is not None:
            row |= _prefixed("truth", self.pooled["truth"].update(fake, truth))
            similarity = ms_ssim(fake, truth)
            row["truth_ms_ssim"] = None if similarity is None else similarity.item()
            if fake.shape[1] == 3 and self.span is None:
                row["truth_ciede2000"] = mean_ciede2000(fake, truth).item()
            if self.span is not None:
                row["truth_mae"] = (fake - truth).abs().mean().item() * self.span / 2
            if self.perceptual is not None:
                row["truth_lpips"] = self.perceptual(fake, truth)
            if real.shape == truth.shape:
                row |= _prefixed("copy", self.pooled["copy"].update(real, truth))
        if min(real.shape[-2:]) >= MIN_SIDE:
            row["edges"] = edge_agreement(fake, real).item()
            row["structure"] = structure_agreement(fake, real).item()
            row["inverted"] = float(color_inversion(fake, real).item() < 0)
            row["checkerboard"] = checkerboard(fake).item()
            row["dead_tiles"] = dead_tiles(fake).item()
        self.rows.append(row)
        return {name: value for name, value in row.items() if not name.startswith("copy")}

    def update_steganography(self, fake: Tensor, real: Tensor) -> None:
        """Add one image to the steganography index; `fake` is not rounded to 8 bits."""
        if self.steganography is not None:
            self.steganography.update(fake, real)
            self.steganography_images += 1

    def result(self) -> dict[str, float | None]:
        """Return every metric over all images."""
        metrics: dict[str, float | None] = {}
        for label, distortion in self.pooled.items():
            if distortion.count:
                metrics |= _prefixed(label, distortion.result())
        for name in (
            "truth_mae",
            "truth_ms_ssim",
            "truth_ciede2000",
            "truth_lpips",
            "edges",
            "structure",
            "inverted",
            "checkerboard",
            "dead_tiles",
        ):
            if values := self._values(name):
                metrics[name] = sum(values) / len(values)
        if self.steganography is not None and self.steganography_images:
            metrics["steganography"] = self.steganography.result()["index"]
        return metrics

    def intervals(self) -> dict[str, list[float]]:
        """Return name -> [low, high], the 95 % interval of every metric that each image has.

        The interval of a PSNR is that of the mean squared error. Fewer than 20 images have none.
        """
        intervals: dict[str, list[float]] = {}
        for name in {name for row in self.rows for name in row}:
            values = self._values(name)
            if len(values) < max(FEWEST, len(self.rows)):
                continue
            if name.endswith("_psnr"):
                errors = torch.tensor([PSNR_RANGE**2 / 10 ** (value / 10) for value in values])
                intervals[name] = list(interval(errors, _psnr_of_mean))
            else:
                intervals[name] = list(interval(values))
        return intervals

    def _values(self, name: str) -> list[float]:
        return [value for row in self.rows if (value := row.get(name)) is not None]


def _psnr_of_mean(errors: Tensor) -> Tensor:
    """Return the PSNR of the mean of squared errors [R, N]."""
    return 10 * (PSNR_RANGE**2 / errors.mean(dim=-1).clamp(min=1e-30)).log10()


def _prefixed(label: str, metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return metrics under prefixed names such as cycle_psnr or truth_ssim."""
    return {f"{label}_{name}": value for name, value in metrics.items() if name != "count"}


def worst_indices(
    rows: Sequence[Mapping[str, float | None]], name: str, count: int, highest: bool
) -> list[int]:
    """Return the indices of the `count` images with the highest (else lowest) value of a metric."""
    known = [(row[name], i) for i, row in enumerate(rows) if row.get(name) is not None]
    return [i for _, i in sorted(known, reverse=highest)[:count]]
