"""Score translators while they learn: how far fakes are from real images, without any learned features."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from engine.preview import translate_all
from engine.runtime import Runtime
from engine.training import Score
from metrics.colour_and_spectrum import colour_distance, spectrum_distance
from metrics.sliced_wasserstein import sliced_wasserstein

DISTANCES: dict[str, Callable[[list[Tensor], list[Tensor]], float]] = {
    "swd": sliced_wasserstein, "colour": colour_distance, "spectrum": spectrum_distance,
}  # fmt: skip


def scores_of(
    translators: nn.ModuleDict, images: Mapping[str, Sequence[Tensor]], names: Sequence[Score],
    runtime: Runtime,
) -> dict[str, float]:  # fmt: skip
    """Return each distance of fakes to real images, the mean over all directions; less is better.

    `images` are domain -> images [1, C, H, W] in [-1, 1], translated here; nothing without images.
    """
    if not any(images.values()):
        return {}
    rows = translate_all(translators.eval(), images, runtime)
    pairs = [
        ([row[1] for row in rows[direction]], list(images[str(translator.target)]))
        for direction, translator in translators.items()
    ]
    return {
        name: sum(DISTANCES[name](fakes, reals) for fakes, reals in pairs) / len(pairs)
        for name in names
    }
