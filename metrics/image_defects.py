"""Marks that a generator leaves and no camera does: grids, dead tiles, inverted light."""

import math

import torch
from torch import Tensor

from metrics.luminance_correlation import LEVEL, correlation, luminance

WINDOW = 32  # pixels; side of the windows whose spectra are averaged
END = 8 * LEVEL  # how near to 0 or 255 a dead tile's channels are on average
FLAT = 2 * LEVEL  # the deviation within a dead tile's channels, at most


def checkerboard(images: Tensor) -> Tensor:
    """Return how far grids of periods 2 and 4 pixels stand out [B], for images [B, C, H, W] in [-1, 1].

    The traces of strided transposed convolutions (Odena et al. 2016, Deconvolution and Checkerboard
    Artifacts, doi:10.23915/distill.00003). Over half-overlapping Hann windows of 32 pixels, the mean
    power of luminance at each frequency of 0, 1/4 or 1/2 cycles per pixel down and across but the
    constant one, divided by the geometric mean of its neighbours 2 and 3 bins away in its row or in
    its column, whichever is greater; then the mean over those frequencies. 0.8 (smooth) to 1 (noise) for
    clean pictures, without an upper bound. A regular texture of such a period counts as well, and JPEG's
    blocks a little: compare with the real images. ValueError for images under 32 pixels.
    """
    if min(images.shape[-2:]) < WINDOW:
        raise ValueError(f"A search for grids needs images of {WINDOW} pixels at least a side.")
    windows = luminance(images)[:, 0].unfold(1, WINDOW, WINDOW // 2).unfold(2, WINDOW, WINDOW // 2)
    places = torch.arange(WINDOW, dtype=torch.float64, device=images.device)
    line = (1 - torch.cos(places * 2 * math.pi / WINDOW)) / 2
    taper = torch.outer(line, line)
    power = torch.fft.fft2(windows * taper).abs().square().mean(dim=(1, 2))
    # The power of 8-bit rounding: below it there is nothing to be seen, and a flat image scores 1.
    power = power / taper.square().sum() + LEVEL**2 / 12
    quarter = WINDOW // 4
    scores = []
    for down in range(0, WINDOW, quarter):
        for right in range(0, WINDOW, quarter):
            if (down, right) != (0, 0):
                around = torch.tensor([-3, -2, 2, 3], device=images.device)
                column = power[:, (down + around) % WINDOW, right].log().mean(dim=1)
                row = power[:, down, (right + around) % WINDOW].log().mean(dim=1)
                scores.append(power[:, down, right] / torch.maximum(row, column).exp())
    return torch.stack(scores).mean(dim=0)


def dead_tiles(images: Tensor, tile: int = 16) -> Tensor:
    """Return the share of dead tiles [B], 0 to 1, of images [B, C, H, W] in [-1, 1].

    A tile of `tile` pixels a side (the image's side if that is shorter) is dead if each of its channels
    is within 8 levels of 0 or of 255 on average and deviates by 2 levels or less: black, white, or a
    pure colour, and without any texture. What is left over at the right and bottom does not count.
    Photographs have burnt-out skies: compare with the real images.
    """
    tile = min(tile, *images.shape[-2:])
    tiles = images.double().unfold(2, tile, tile).unfold(3, tile, tile).flatten(4)
    ended = tiles.mean(dim=-1).abs() >= 1 - END
    flat = tiles.std(dim=-1, correction=0) <= FLAT
    return (ended & flat).all(dim=1).double().mean(dim=(1, 2))


def color_inversion(fake: Tensor, real: Tensor) -> Tensor:
    """Return the correlation of luminance [B], -1 to 1, between outputs and inputs [B, C, H, W].

    Negative where light and dark have changed places, a solution that a cycle does not rule out. 0
    where either image is flat. Channels may differ.
    """
    return correlation(luminance(fake), luminance(real))
