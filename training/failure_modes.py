"""Detect slow failures of a translator, such as mode collapse, from a few of its translations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.image_defects import WINDOW, checkerboard, color_inversion, dead_tiles

# Mean absolute difference to the input on [-1, 1], two 8-bit levels: below it nothing has changed.
UNCHANGED_BELOW = 0.016
COLLAPSED_BELOW = 0.1  # standard deviation over the fakes, relative to that over their inputs
INVERTED_BELOW = -0.3  # mean correlation of luminance between fakes and inputs
DEAD_ABOVE = 0.1  # share of dead tiles in fakes, minus that in real images
GRID_ABOVE = 3.0  # checkerboard score of fakes, relative to that of real images

Images = Sequence[Tensor]
"""Images [1, C, H, W] in [-1, 1]."""


@dataclass(frozen=True)
class FailureMode:
    """A way to fail: its title, a suggested fix, and a function that detects it."""

    title: str
    advice: str
    detect: Callable[[Images, Images, Images], bool]
    """Called with the inputs, their translations, and real images of the target domain."""


def is_unchanged(sources: Images, fakes: Images, _: Images) -> bool:
    """Return whether the translations are nearly equal to their inputs."""
    if sources[0].shape != fakes[0].shape:
        return False
    changes = [(fake - real).abs().mean() for fake, real in zip(fakes, sources, strict=True)]
    return float(torch.stack(changes).mean()) < UNCHANGED_BELOW


def is_mode_collapse(sources: Images, fakes: Images, _: Images) -> bool:
    """Return whether different inputs have nearly the same translation."""
    if len(fakes) < 2 or any(x.shape != fakes[0].shape for x in fakes):
        return False
    if any(x.shape != sources[0].shape for x in sources):
        return False
    return _mean_std(fakes) < COLLAPSED_BELOW * _mean_std(sources)


def is_inverted(sources: Images, fakes: Images, _: Images) -> bool:
    """Return whether translations are dark where their inputs are light, and the reverse."""
    pairs = zip(fakes, sources, strict=True)
    return float(torch.cat([color_inversion(*pair) for pair in pairs]).mean()) < INVERTED_BELOW


def has_dead_regions(_: Images, fakes: Images, reals: Images) -> bool:
    """Return whether more of the translations than of real images is black or burnt out."""
    fake_share, real_share = (
        torch.cat([dead_tiles(x) for x in images]).mean() for images in (fakes, reals)
    )
    return float(fake_share - real_share) > DEAD_ABOVE


def has_checkerboard(_: Images, fakes: Images, reals: Images) -> bool:
    """Return whether translations have a checkerboard of a few pixels that real images lack."""
    if any(min(x.shape[2:]) < WINDOW for x in (*fakes, *reals)):
        return False
    fake_score, real_score = (
        torch.cat([checkerboard(x) for x in images]).mean() for images in (fakes, reals)
    )
    return float(fake_score) > GRID_ABOVE * max(float(real_score), 1.0)


def _mean_std(images: Images) -> float:
    """Return the standard deviation over images, mean of all values."""
    return float(torch.cat(list(images)).std(0, correction=0).mean())


FAILURE_MODES = (
    FailureMode(
        "the translations are their inputs, hardly changed",
        "try a lower method.identity_weight or method.cycle_weight", is_unchanged,
    ),
    FailureMode(
        "all translations are one picture",
        "try a higher method.cycle_weight, or a lower learning_rate", is_mode_collapse,
    ),
    FailureMode(
        "light and dark have changed places",
        "try method.identity_weight=1, or another seed", is_inverted,
    ),
    FailureMode(
        "parts of the translations are black or burnt out",
        "try a lower learning_rate, or another seed", has_dead_regions,
    ),
    FailureMode(
        "a grid lies over the translations",
        "try method.generator.upsampling=resize", has_checkerboard,
    ),
)  # fmt: skip
