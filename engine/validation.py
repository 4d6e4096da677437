"""Score translators in training: distances of fakes to real images without learned features."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from engine.train_config import ValidationMetric
from metrics.color_and_spectrum import color_distance, spectrum_distance
from metrics.sliced_wasserstein import sliced_wasserstein

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
    return {name: sum(DISTANCES[name](*pair) for pair in pairs) / len(pairs) for name in names}
