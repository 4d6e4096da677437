"""Figures of sets of images: how far fakes are from real ones, beside a floor and a ceiling."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from data.folders import evenly_spaced
from data.tensors import normalize
from engine.validation import DISTANCES
from evaluation.features import Inception
from metrics.bootstrap import set_interval
from metrics.frechet import frechet_distance
from metrics.kernel import kernel_distance
from metrics.manifold import density_coverage, improved_precision_recall
from metrics.memorization import mifid

MAX_IMAGES = 200  # images of a set that the weight-free distances look at, evenly spread
RESAMPLES = 20


@dataclass
class SetMetrics:
    """Set figures of the fakes, of as many other real images (floor), of the input copied (ceiling)."""

    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    real_baseline: dict[str, float] = field(default_factory=dict)
    copy_baseline: dict[str, float] = field(default_factory=dict)


def set_metrics(
    fakes: Sequence[Tensor], reals: Sequence[Tensor], sources: Sequence[Tensor],
    trained: Sequence[Tensor], inception: Inception | None, paired: bool = False,
) -> SetMetrics:  # fmt: skip
    """Compare sets of uint8 images [1, C, H, W].

    `reals` are the held-out images of the target domain, the reference of every figure; `sources` the
    inputs of the fakes, `trained` training images of the target domain: against the held-out ones they
    score what a perfect translator may hope for with so few images.

    Where the held-out images are `paired`, they show the very scenes of the inputs, and are nearer to
    the fakes than any independent image could be: then the training images are the reference, and
    the held-out ones the floor.
    """
    result = SetMetrics()
    reference, others = (trained, reals) if paired and len(trained) > 1 else (reals, trained)
    real = [normalize(x) for x in evenly_spaced(reference, MAX_IMAGES)]
    sets = {
        "metrics": fakes,
        "copy_baseline": sources,
        "real_baseline": evenly_spaced(others, len(fakes)),
    }
    for label, images in sets.items():
        if len(images) < 2 or len(real) < 2 or images[0].shape[1] != real[0].shape[1]:
            continue
        shown = [normalize(x) for x in evenly_spaced(images, MAX_IMAGES)]
        figures = getattr(result, label)
        for name, distance in DISTANCES.items():
            figures[name] = distance(shown, real)
            if label == "metrics":
                low, high = set_interval(distance, shown, real, resamples=RESAMPLES)
                result.intervals[name] = [low, high]
    if inception is not None:
        _learned(result, sets, reference, trained, inception)
    return result


def _learned(
    result: SetMetrics, sets: dict[str, Sequence[Tensor]], reals: Sequence[Tensor],
    trained: Sequence[Tensor], inception: Inception,
) -> None:  # fmt: skip
    """Add FID, KID, precision, recall, density, coverage and MiFID, of all images in colour."""
    if len(reals) < 2 or reals[0].shape[1] != 3:
        return
    real, bank = inception(reals), inception(trained) if len(trained) else None
    for label, images in sets.items():
        if len(images) < 2 or images[0].shape[1] != 3:
            continue
        found = inception(images)
        figures = getattr(result, label)
        figures["fid"] = frechet_distance(found, real)
        figures["kid"] = kernel_distance(found, real)[0]
        if min(len(found), len(real)) > 5:
            figures["precision"], figures["recall"] = improved_precision_recall(found, real)
            figures["density"], figures["coverage"] = density_coverage(found, real)
        if label == "metrics":
            if bank is not None and len(bank):
                figures["mifid"] = mifid(figures["fid"], found, bank)
            for name, distance in (
                ("fid", frechet_distance),
                ("kid", lambda x, y: kernel_distance(x, y)[0]),
            ):
                low, high = set_interval(distance, found, real, resamples=RESAMPLES)
                result.intervals[name] = [low, high]
