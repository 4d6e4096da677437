"""Metrics of each translated image, and their means over all images."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from metrics.bootstrap import interval
from metrics.distortion import Distortion, psnr
from metrics.faithfulness import Steganography, edge_agreement, structure_agreement
from metrics.image_defects import checkerboard, color_inversion, dead_tiles

LEAST = 32  # pixels that the checkerboard's spectrum needs


class ImageMetrics:
    """Metrics of one direction that are means over its images, with their 95 % bootstrap intervals.

    `update` takes an image and its translations, floats [1, C, H, W] in [-1, 1], and returns that image's
    metrics; `result` returns the metrics over all images, `intervals` their intervals. `inverse` is the
    translator back to the source, `perceptual` a distance of two images (LPIPS).
    """

    def __init__(
        self, inverse: Callable[[Tensor], Tensor] | None,
        perceptual: Callable[[Tensor, Tensor], float | None] | None = None,
    ) -> None:  # fmt: skip
        self.pooled = {"cycle": Distortion(), "truth": Distortion(), "copy": Distortion()}
        self.steganography = None if inverse is None else Steganography(inverse)
        self.perceptual = perceptual
        self.steganography_images = 0  # images in it
        self.rows: list[dict[str, float | None]] = []

    def update(
        self, real: Tensor, fake: Tensor, restored: Tensor | None, truth: Tensor | None
    ) -> dict[str, float | None]:
        """Add one image; `fake` as it was rounded to 8 bits, `restored` from what was not."""
        row: dict[str, float | None] = {}
        if restored is not None:
            row |= named("cycle", self.pooled["cycle"].update(restored, real))
        if truth is not None:
            row |= named("truth", self.pooled["truth"].update(fake, truth))
            if self.perceptual is not None:
                row["truth_lpips"] = self.perceptual(fake, truth)
            if real.shape == truth.shape:
                row |= named("copy", self.pooled["copy"].update(real, truth))
        if min(real.shape[-2:]) >= LEAST:
            row["edges"] = edge_agreement(fake, real).item()
            row["structure"] = structure_agreement(fake, real).item()
            row["inverted"] = float(color_inversion(fake, real).item() < 0)
            row["checkerboard"] = checkerboard(fake).item()
            row["dead_tiles"] = dead_tiles(fake).item()
        self.rows.append(row)
        return {name: value for name, value in row.items() if not name.startswith("copy")}

    def update_steganography(self, fake: Tensor, real: Tensor) -> None:
        """Add one image to the steganography index: the fake as it is, before it is rounded."""
        if self.steganography is not None:
            self.steganography.update(fake, real)
            self.steganography_images += 1

    def result(self) -> dict[str, float | None]:
        """Return every figure over all images."""
        figures: dict[str, float | None] = {}
        for label, distortion in self.pooled.items():
            if distortion.count:
                figures |= named(label, distortion.result())
        for name in ("truth_lpips", "edges", "structure", "inverted", "checkerboard", "dead_tiles"):
            if values := self._values(name):
                figures[name] = sum(values) / len(values)
        if self.steganography is not None and self.steganography_images:
            figures["steganography"] = self.steganography.result()["index"]
        return figures

    def intervals(self) -> dict[str, list[float]]:
        """Return the 95 % interval of every figure that is a mean over images (PSNR: of their errors)."""
        found: dict[str, list[float]] = {}
        for name in {name for row in self.rows for name in row}:
            values = self._values(name)
            if len(values) < 2 or len(values) < len(self.rows):
                continue
            if name.endswith("_psnr"):
                errors = torch.tensor([4 / 10 ** (value / 10) for value in values])
                found[name] = list(interval(errors, lambda x: psnr(x.mean().item()) or 0.0))
            else:
                found[name] = list(interval(values))
        return found

    def _values(self, name: str) -> list[float]:
        return [value for row in self.rows if (value := row.get(name)) is not None]


def named(label: str, figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return figures under names that say what they are of: cycle_psnr, truth_ssim."""
    return {f"{label}_{name}": value for name, value in figures.items() if name != "count"}


def worst(
    rows: Sequence[Mapping[str, float | None]], name: str, count: int, high: bool
) -> list[int]:
    """Return the indices of the `count` images with the highest (or lowest) figure."""
    known = [(row[name], i) for i, row in enumerate(rows) if row.get(name) is not None]
    return [i for _, i in sorted(known, reverse=high)[:count]]
