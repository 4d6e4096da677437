"""Detect defects of generated images: checkerboard grids, dead tiles and inverted luminance."""

import math

import torch
from torch import Tensor

from metrics.luminance_correlation import LEVEL, correlation, luminance

WINDOW = 32  # side in pixels of the windows whose spectra are averaged
MAX_END_DISTANCE = 8 * LEVEL  # of the mean of a dead tile's channel from 0 or 255
MAX_STD = 2 * LEVEL  # of a dead tile's channel


def checkerboard(images: Tensor) -> Tensor:
    """Return the relative power [B] of grids of periods 2 and 4 in images [B, C, H, W] in [-1, 1].

    Strided transposed convolutions leave such grids (Odena et al. 2016, Deconvolution and
    Checkerboard Artifacts, doi:10.23915/distill.00003). The mean power of luminance over
    half-overlapping Hann windows of 32 pixels is taken at each frequency of 0, 1/4 or 1/2 cycles
    per pixel along both axes, without the constant. It is divided by the geometric mean of its
    neighbours 2 and 3 bins away in its row or in its column, whichever is greater, and averaged
    over those frequencies. 0.8 (smooth) to 1 (noise) for clean images, without an upper bound. A
    regular texture of such a period also raises it, and JPEG blocks do a little: compare with the
    real images. ValueError for images under 32 pixels.
    """
    if min(images.shape[-2:]) < WINDOW:
        raise ValueError(
            f"The checkerboard metric needs images of at least {WINDOW} pixels a side."
        )
    windows = luminance(images)[:, 0].unfold(1, WINDOW, WINDOW // 2).unfold(2, WINDOW, WINDOW // 2)
    positions = torch.arange(WINDOW, dtype=torch.float64, device=images.device)
    hann = (1 - torch.cos(positions * 2 * math.pi / WINDOW)) / 2
    taper = torch.outer(hann, hann)
    power = torch.fft.fft2(windows * taper).abs().square().mean(dim=(1, 2))
    # The added power of 8-bit rounding hides weaker, invisible grids; a flat image scores 1.
    power = power / taper.square().sum() + LEVEL**2 / 12
    quarter = WINDOW // 4
    scores = []
    for down in range(0, WINDOW, quarter):
        for right in range(0, WINDOW, quarter):
            if (down, right) != (0, 0):
                offsets = torch.tensor([-3, -2, 2, 3], device=images.device)
                column = power[:, (down + offsets) % WINDOW, right].log().mean(dim=1)
                row = power[:, down, (right + offsets) % WINDOW].log().mean(dim=1)
                scores.append(power[:, down, right] / torch.maximum(row, column).exp())
    return torch.stack(scores).mean(dim=0)


def dead_tiles(images: Tensor, tile: int = 16) -> Tensor:
    """Return the share of dead tiles [B], 0 to 1, of images [B, C, H, W] in [-1, 1].

    A tile of `tile` pixels a side (the image's side if that is shorter) is dead if the mean of each
    channel is within 8 levels of 0 or 255 and its standard deviation is at most 2 levels: black,
    white or a pure color without any texture. Remaining pixels at the right and bottom are
    ignored. Photographs have overexposed skies: compare with the real images.
    """
    tile = min(tile, *images.shape[-2:])
    tiles = images.double().unfold(2, tile, tile).unfold(3, tile, tile).flatten(4)
    saturated = tiles.mean(dim=-1).abs() >= 1 - MAX_END_DISTANCE
    flat = tiles.std(dim=-1, correction=0) <= MAX_STD
    return (saturated & flat).all(dim=1).double().mean(dim=(1, 2))


def color_inversion(fake: Tensor, real: Tensor) -> Tensor:
    """Return the correlation of luminance [B], -1 to 1, between outputs and inputs [B, C, H, W].

    Negative if light and dark are swapped, a solution that cycle consistency allows. 0 if either
    image is flat. The numbers of channels may differ.
    """
    return correlation(luminance(fake), luminance(real))
