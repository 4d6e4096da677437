"""Summarize a set of images: number, sizes, aspect ratios and colors."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.doctor.examine_image import ExaminedFile


@dataclass(frozen=True)
class ImageStatistics:
    """The statistics of the usable images of a set; 0 or empty if there are none."""

    images: int  # that can be used
    unusable: int
    short_sides: list[int]  # pixels
    aspects: list[float]  # width over height, as displayed
    megapixels: float  # median
    mean: list[float]  # R, G, B in 8-bit levels
    std: list[float]  # R, G, B in 8-bit levels, over all pixels of all images
    grey: float  # fraction of images without color
    channels: int  # of most images: 1 grey, 3 color, or those of the arrays

    def short_side_quantile(self, fraction: float) -> float:
        """Return the short side, in pixels, that `fraction` of the images do not exceed."""
        return float(np.quantile(self.short_sides, fraction)) if self.short_sides else 0.0


@dataclass(frozen=True)
class ColorGap:
    """The color difference of two domains, second minus first, in 8-bit levels of R, G and B."""

    first: str
    second: str
    mean: list[float]
    std: list[float]

    @property
    def largest(self) -> float:
        return max(abs(value) for value in [*self.mean, *self.std])


def image_statistics(examined: Sequence[ExaminedFile]) -> ImageStatistics:
    """Return the statistics of examined files."""
    usable = [file for file in examined if not file.fault]
    headers = [file.header for file in usable if file.header]
    if not headers:
        return ImageStatistics(0, len(examined), [], [], 0.0, [], [], 0.0, 3)
    means = np.array([file.mean for file in usable])
    variances = np.array([file.std for file in usable]) ** 2
    pixels = [header.width * header.height for header in headers]
    grey = sum("grey" in file.oddities for file in usable) / len(usable)
    counts = Counter(
        header.channels
        for header in headers
        if header.format == "NPY" or header.channels not in (1, 3)
    )
    channels = counts.most_common(1)[0][0] if 2 * counts.total() > len(usable) else 3
    return ImageStatistics(
        images=len(usable),
        unusable=len(examined) - len(usable),
        short_sides=[min(header.width, header.height) for header in headers],
        aspects=[header.width / header.height for header in headers],
        megapixels=float(np.median(pixels)) / 1e6,
        mean=means.mean(0).round(2).tolist(),
        std=np.sqrt(variances.mean(0) + means.var(0)).round(2).tolist(),
        grey=grey,
        channels=1 if channels == 3 and grey > 0.9 else channels,
    )


def color_gaps(statistics: dict[str, ImageStatistics]) -> list[ColorGap]:
    """Return the color difference of each domain to the first, from domain -> statistics."""
    (first, reference), *others = statistics.items()
    return [
        ColorGap(
            first, name,
            _difference(each.mean, reference.mean), _difference(each.std, reference.std),
        )
        for name, each in others
        if each.images and reference.images
    ]  # fmt: skip


def _difference(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [round(x - y, 2) for x, y in zip(one, other, strict=True)]
