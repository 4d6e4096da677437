"""Score translators in training: distances of fakes to real images without learned features."""

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from engine.train_config import ValidationMetric
from metrics.set_distances.color_and_spectrum import color_distance, spectrum_distance
from metrics.set_distances.sliced_wasserstein import sliced_wasserstein

SCORE_DEFINITION = 2  # of the scores; 1 was another swd, with values about a thousandth of these
DISTANCES: dict[str, Callable[[list[Tensor], list[Tensor]], float]] = {
    "swd": sliced_wasserstein, "color": color_distance, "spectrum": spectrum_distance,
}  # fmt: skip


def validation_scores(
    rows: Mapping[str, Sequence[Sequence[Tensor]]], reals: Mapping[str, Sequence[Tensor]],
    names: Sequence[ValidationMetric],
) -> dict[str, float]:  # fmt: skip
    """Return metric -> distance of fakes to real images, averaged over directions; lower is better.

    `rows` maps a direction to rows of [real, fake, ...], `reals` a direction to real images of its
    target, each [1, C, H, W] in [-1, 1].
    """
    pairs = [([row[1] for row in rows[name]], list(reals[name])) for name in rows]
    return {name: sum(_distance(name, *pair) for pair in pairs) / len(pairs) for name in names}


def logged_name(name: str, began_with: int) -> str:
    """Return the name under which a score is logged in a run that began with a definition.

    A run whose earlier scores have another definition logs the new ones beside them.
    """
    return "swd_x1000" if name == "swd" and began_with < SCORE_DEFINITION else name


def _distance(name: str, fakes: list[Tensor], reals: list[Tensor]) -> float:
    """Return a distance; NaN where the fakes are not finite or too small for it."""
    try:
        return DISTANCES[name](fakes, reals)
    except ValueError:
        return math.nan
