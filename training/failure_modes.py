"""What a translator that fails slowly looks like, told from a few of its pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.image_defects import WINDOW, checkerboard, color_inversion, dead_tiles

COPIED = 0.016  # mean absolute difference on [-1, 1], two 8-bit levels, below which nothing changed
ALIKE = 0.1  # of the real images' spread, below which all fakes are one picture
INVERTED = -0.3  # mean correlation of luminance
DEAD = 0.1  # of the tiles, more than in real images
GRID = 3.0  # times the real images' checkerboard score

Images = Sequence[Tensor]
"""Images [1, C, H, W] in [-1, 1]."""


@dataclass(frozen=True)
class FailureMode:
    """A way to fail: what it is called, what helps, and how it is told."""

    title: str
    advice: str
    detect: Callable[[Images, Images, Images], bool]
    """Takes the inputs, their translations, and real images of the target domain."""


def is_unchanged(sources: Images, fakes: Images, _: Images) -> bool:
    """Say whether the translations are the inputs."""
    if sources[0].shape != fakes[0].shape:
        return False
    changes = [(fake - real).abs().mean() for fake, real in zip(fakes, sources, strict=True)]
    return float(torch.stack(changes).mean()) < COPIED


def is_mode_collapse(sources: Images, fakes: Images, _: Images) -> bool:
    """Say whether different inputs become one picture."""
    if len(fakes) < 2 or any(x.shape != fakes[0].shape for x in fakes):
        return False
    if any(x.shape != sources[0].shape for x in sources):
        return False
    return _spread(fakes) < ALIKE * _spread(sources)


def is_inverted(sources: Images, fakes: Images, _: Images) -> bool:
    """Say whether light and dark have changed places."""
    pairs = zip(fakes, sources, strict=True)
    return float(torch.cat([color_inversion(*pair) for pair in pairs]).mean()) < INVERTED


def has_dead_regions(_: Images, fakes: Images, reals: Images) -> bool:
    """Say whether parts of the translations are black or burnt out, more than in real images."""
    found, usual = (torch.cat([dead_tiles(x) for x in images]).mean() for images in (fakes, reals))
    return float(found - usual) > DEAD


def has_checkerboard(_: Images, fakes: Images, reals: Images) -> bool:
    """Say whether a grid of a few pixels lies over the translations, and not over real images."""
    if any(min(x.shape[2:]) < WINDOW for x in (*fakes, *reals)):
        return False
    found, usual = (
        torch.cat([checkerboard(x) for x in images]).mean() for images in (fakes, reals)
    )
    return float(found) > GRID * max(float(usual), 1.0)


def _spread(images: Images) -> float:
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
