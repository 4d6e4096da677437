"""The numbers of a set of images: how many, how large, of what shape, of what colours."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.doctor.examine import Examined


@dataclass(frozen=True)
class ImageStatistics:
    """What the usable images of a set are like; everything is 0 or empty where there are none."""

    images: int
    unusable: int
    short_sides: list[int]  # pixels
    aspects: list[float]  # width over height, as displayed
    megapixels: float  # of the middle one
    mean: list[float]  # R, G, B in 8-bit levels
    spread: list[float]  # deviation over all pixels of all images
    grey: float  # share without colour
    channels: int  # what most of them hold: 1 grey, 3 colour, or an array's

    def quantile(self, share: float) -> float:
        """Return the short side that `share` of the images stay below."""
        return float(np.quantile(self.short_sides, share)) if self.short_sides else 0.0


@dataclass(frozen=True)
class ColorGap:
    """How far the colours of two domains are apart, in 8-bit levels of R, G and B: second less first."""

    first: str
    second: str
    mean: list[float]
    spread: list[float]

    @property
    def largest(self) -> float:
        return max(abs(value) for value in [*self.mean, *self.spread])


def image_statistics(examined: Sequence[Examined]) -> ImageStatistics:
    """Sum up what was seen of some files."""
    good = [entry for entry in examined if not entry.fault]
    headers = [entry.header for entry in good if entry.header]
    if not headers:
        return ImageStatistics(0, len(examined), [], [], 0.0, [], [], 0.0, 3)
    means = np.array([entry.mean for entry in good])
    within = np.array([entry.spread for entry in good]) ** 2
    pixels = [header.width * header.height for header in headers]
    grey = sum("grey" in entry.oddities for entry in good) / len(good)
    counts = Counter(header.channels for header in headers if header.format == "NPY")
    channels = counts.most_common(1)[0][0] if 2 * counts.total() > len(good) else 3
    return ImageStatistics(
        images=len(good),
        unusable=len(examined) - len(good),
        short_sides=[min(header.width, header.height) for header in headers],
        aspects=[header.width / header.height for header in headers],
        megapixels=float(np.median(pixels)) / 1e6,
        mean=means.mean(0).round(2).tolist(),
        spread=np.sqrt(within.mean(0) + means.var(0)).round(2).tolist(),
        grey=grey,
        channels=1 if channels == 3 and grey > 0.9 else channels,
    )


def color_gaps(figures: dict[str, ImageStatistics]) -> list[ColorGap]:
    """Return the gap of each domain to the first one; `figures` maps domains to their numbers."""
    (first, start), *others = figures.items()
    return [
        ColorGap(first, name, _difference(each.mean, start.mean), _difference(each.spread, start.spread))
        for name, each in others
        if each.images and start.images
    ]  # fmt: skip


def _difference(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [round(x - y, 2) for x, y in zip(one, other, strict=True)]
