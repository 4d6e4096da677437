"""Distances between two sets of images in their colours and in their sharpness, without weights."""

import math

import torch
from torch import Tensor

from metrics.luminance_correlation import LEVEL, luminance

BINS = 32  # frequencies of a spectrum, up to half a cycle per pixel


def color_distance(fake: list[Tensor], real: list[Tensor]) -> float:
    """Return how far the colours of two sets of images [1, C, H, W] in [-1, 1] are apart, in levels.

    For each channel the 1-D Wasserstein distance of its values' distributions, in 8-bit levels (0 to 255;
    the area between the two cumulative histograms), and the mean over the channels. Channels are
    taken one by one, so that how they go together does not count. Every image counts alike,
    whatever its size. 0 for equal sets; values are rounded to 8 bits first, as a saved image is.
    """
    one, two = (torch.stack([_histogram(image) for image in x]).mean(dim=0) for x in (fake, real))
    return (one - two).cumsum(dim=1).abs().sum(dim=1).mean().item()


def spectrum_distance(fake: list[Tensor], real: list[Tensor]) -> float:
    """Return how far the spectra of two sets of images [1, C, H, W] in [-1, 1] are apart, in dB.

    The mean absolute difference of the two sets' mean log power spectra of luminance, radially averaged
    (as Durall et al. 2020, arXiv:2003.01826, Sec. 3.1) in up to 32 rings of equal width from 0 to half a
    cycle per pixel. Frequencies are per pixel, so that sizes may differ; the smallest image sets the
    number of rings. 0 for equal sets. Blurred sets differ in the outer rings, grids and noise too.
    """
    side = min(min(image.shape[-2:]) for image in fake + real)
    rings = min(BINS, side // 2)
    if rings < 1:
        raise ValueError("A spectrum needs images of two pixels at least along each side.")
    one, two = (
        torch.stack([_spectrum(image, rings) for image in x]).mean(dim=0) for x in (fake, real)
    )
    return (one - two).abs().mean().item()


def _histogram(image: Tensor) -> Tensor:
    """Return the share of each of the 256 levels in each channel, [C, 256]."""
    levels = ((image[0].double().cpu() + 1) / LEVEL).round().clamp(0, 255).long().flatten(1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in levels])
    return counts.double() / levels.shape[1]


def _spectrum(image: Tensor, rings: int) -> Tensor:
    """Return the mean power in each ring [rings], in dB; white noise of variance v is at 10 log10 v."""
    light = luminance(image.cpu())[0, 0]
    height, width = light.shape
    # Without a window the borders, where an image does not continue, would fill the outer rings.
    window = torch.outer(_hann(height), _hann(width))
    light = (light - (light * window).sum() / window.sum()) * window
    power = torch.fft.fft2(light).abs().square() / window.square().sum()
    down, right = (torch.fft.fftfreq(side, dtype=torch.float64) for side in (height, width))
    frequency = torch.hypot(down[:, None], right)
    # Rings hold their outer border: the innermost then has a frequency even in the smallest image.
    ring = (frequency * 2 * rings - 1e-9).ceil().long() - 1
    inside = (ring >= 0) & (ring < rings)  # neither the mean nor the corners beyond half a cycle
    total = torch.zeros(rings, dtype=torch.float64).index_add_(0, ring[inside], power[inside])
    mean = total / torch.bincount(ring[inside], minlength=rings)
    # The power of 8-bit rounding keeps empty frequencies finite; nobody can see less.
    return 10 * (mean + LEVEL**2 / 12).log10()


def _hann(side: int) -> Tensor:
    places = (torch.arange(side, dtype=torch.float64) + 0.5) * math.pi / side
    return places.sin().square()
