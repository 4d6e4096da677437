"""Score translators while they learn: how far fakes are from real images, without any learned features."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from engine.config import ValidationMetric
from metrics.color_and_spectrum import color_distance, spectrum_distance
from metrics.sliced_wasserstein import sliced_wasserstein

DISTANCES: dict[str, Callable[[list[Tensor], list[Tensor]], float]] = {
    "swd": sliced_wasserstein, "color": color_distance, "spectrum": spectrum_distance,
}  # fmt: skip


def validation_scores(
    rows: Mapping[str, Sequence[Sequence[Tensor]]], reals: Mapping[str, Sequence[Tensor]],
    names: Sequence[ValidationMetric],
) -> dict[str, float]:  # fmt: skip
    """Return each distance of fakes to real images, the mean over all directions; less is better.

    `rows` are direction -> rows of [real, fake, ...], `reals` direction -> real images of its target,
    each [1, C, H, W] in [-1, 1].
    """
    pairs = [([row[1] for row in found], list(reals[name])) for name, found in rows.items()]
    return {name: sum(DISTANCES[name](*pair) for pair in pairs) / len(pairs) for name in names}
