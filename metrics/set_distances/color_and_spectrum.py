"""Distances between the colors and the spectra of two sets of images, without learned features."""

import functools
import math

import torch
from torch import Tensor

from metrics.luminance_correlation import LEVEL, luminance

MAX_RINGS = 32  # frequency bands of a spectrum, up to half a cycle per pixel


def color_distance(fake: list[Tensor], real: list[Tensor]) -> float:
    """Return the distance of the color distributions of two sets of images, in 8-bit levels.

    Images are [1, C, H, W] in [-1, 1]. The result, 0 to 255, is the mean over the channels of the
    1-D Wasserstein distance between the distributions of a channel's values (the area between the
    two cumulative histograms). Correlations between channels have no effect. Every image has the
    same weight, whatever its size. 0 for equal sets; values are rounded to 8 bits first, as in a
    saved image.
    """
    one, two = (
        torch.stack([color_histogram(image) for image in x]).mean(dim=0) for x in (fake, real)
    )
    return histogram_distance(one, two)


def spectrum_distance(fake: list[Tensor], real: list[Tensor]) -> float:
    """Return the distance of the spectra of two sets of images [1, C, H, W] in [-1, 1], in dB.

    It is the mean absolute difference of the two sets' mean log power spectra of luminance,
    radially averaged (as in Durall et al. 2020, arXiv:2003.01826, Sec. 3.1) in up to 32 rings of
    equal width from 0 to half a cycle per pixel. Frequencies are per pixel, so sizes may differ;
    the smallest image determines the number of rings. 0 for equal sets. Blur, grids and noise
    change the outer rings. ValueError for images under 2 pixels a side.
    """
    rings = min(spectrum_rings(image) for image in fake + real)
    one, two = (
        torch.stack([log_spectrum(image, rings) for image in x]).mean(dim=0) for x in (fake, real)
    )
    return (one - two).abs().mean().item()


def histogram_distance(one: Tensor, two: Tensor) -> float:
    """Return the color distance of two mean histograms [C, 256], in 8-bit levels."""
    return (one - two).cumsum(dim=1).abs().sum(dim=1).mean().item()


def spectrum_rings(image: Tensor) -> int:
    """Return the number of rings of an image's spectrum; ValueError under 2 pixels a side."""
    side = min(image.shape[-2:])
    if side < 2:
        raise ValueError(f"A spectrum needs images of at least 2 pixels a side, got {side}.")
    return min(MAX_RINGS, side // 2)


def color_histogram(image: Tensor) -> Tensor:
    """Return the share of each of the 256 levels in each channel of [1, C, H, W], [C, 256]."""
    levels = ((image[0].double().cpu() + 1) / LEVEL).round().clamp(0, 255).long().flatten(1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in levels])
    return counts.double() / levels.shape[1]


def log_spectrum(image: Tensor, rings: int) -> Tensor:
    """Return the mean power in each ring [rings], in dB; noise of variance v has 10 log10 v."""
    light = luminance(image.cpu())[0, 0]
    window, weights, ring, counts = _grid(*light.shape, rings)
    light = (light - (light * window).sum() / window.sum()) * window
    power = torch.view_as_real(torch.fft.rfft2(light)).square().sum(dim=2) / window.square().sum()
    power = (power * weights)[weights > 0]
    mean = torch.zeros(rings, dtype=torch.float64).index_add_(0, ring, power) / counts
    # The power of 8-bit rounding, which is invisible, keeps empty frequencies finite.
    return 10 * (mean + LEVEL**2 / 12).log10()


@functools.lru_cache(maxsize=64)
def _grid(height: int, width: int, rings: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the window, the weights of the frequencies of rfft2, their rings, and sums of weights.

    rfft2 leaves out the frequencies whose power is that of their opposites, so most count twice.
    """
    # Without a window the discontinuity at the borders would dominate the outer rings.
    window = torch.outer(_hann(height), _hann(width))
    down = torch.fft.fftfreq(height, dtype=torch.float64).abs()
    frequency = torch.hypot(down[:, None], torch.fft.rfftfreq(width, dtype=torch.float64))
    # A ring includes its outer border, so that the innermost one is never empty.
    ring = (frequency * 2 * rings - 1e-9).ceil().long() - 1
    inside = (ring >= 0) & (ring < rings)  # without the mean and the corners beyond half a cycle
    weights = inside.double() * 2
    weights[:, 0] /= 2
    if width % 2 == 0:
        weights[:, -1] /= 2
    counts = torch.bincount(ring[inside], weights[inside], minlength=rings)
    return window, weights, ring[inside], counts


def _hann(side: int) -> Tensor:
    phases = (torch.arange(side, dtype=torch.float64) + 0.5) * math.pi / side
    return phases.sin().square()
