"""Measure the distance of a set of fakes to real images, next to two baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from data.folders import evenly_spaced
from data.tensors import normalize
from engine.validation import DISTANCES
from evaluation.pretrained_networks import Inception
from metrics.bootstrap import set_interval
from metrics.frechet_distance import frechet_distance
from metrics.kernel_distance import kernel_distance
from metrics.memorization import mifid
from metrics.precision_recall import density_coverage, improved_precision_recall

MAX_IMAGES = 200  # of a set, evenly spaced, for the distances without a pretrained network
RESAMPLES = 20  # of the bootstrap


@dataclass
class SetMetrics:
    """Set metrics of fakes, of other real images (the floor) and of inputs (the ceiling)."""

    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    real_baseline: dict[str, float] = field(default_factory=dict)
    copy_baseline: dict[str, float] = field(default_factory=dict)


def set_metrics(
    fakes: Sequence[Tensor], reals: Sequence[Tensor], sources: Sequence[Tensor],
    trained: Sequence[Tensor], inception: Inception | None, paired: bool = False,
) -> SetMetrics:  # fmt: skip
    """Return the set metrics of uint8 images [1, C, H, W].

    `fakes` are the translations and `sources` their inputs; `reals` are the held-out images of the
    target domain, the reference of every metric; `trained` are training images of the target
    domain. The real baseline (the floor) compares `trained` with the reference: a perfect
    translator can expect no better from so few images. The copy baseline (the ceiling) compares
    `sources` with it.

    Where the held-out images are `paired`, they show the same scenes as the inputs, and are nearer
    to the fakes than independent images could be: then the training images are the reference, and
    the held-out images give the real baseline.

    Sets of fewer than two images, or with other channels than the reference, have no metrics.
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
        sample = [normalize(x) for x in evenly_spaced(images, MAX_IMAGES)]
        metrics = getattr(result, label)
        for name, distance in DISTANCES.items():
            metrics[name] = distance(sample, real)
            if label == "metrics":
                low, high = set_interval(distance, sample, real, resamples=RESAMPLES)
                result.intervals[name] = [low, high]
    if inception is not None:
        _add_feature_metrics(result, sets, reference, trained, inception)
    return result


def _add_feature_metrics(
    result: SetMetrics, sets: dict[str, Sequence[Tensor]], reference: Sequence[Tensor],
    trained: Sequence[Tensor], inception: Inception,
) -> None:  # fmt: skip
    """Add FID, KID, precision, recall, density, coverage and MiFID to the sets of RGB images."""
    if len(reference) < 2 or reference[0].shape[1] != 3:
        return
    real, bank = inception(reference), inception(trained) if len(trained) else None
    for label, images in sets.items():
        if len(images) < 2 or images[0].shape[1] != 3:
            continue
        features = inception(images)
        metrics = getattr(result, label)
        metrics["fid"] = frechet_distance(features, real)
        metrics["kid"] = kernel_distance(features, real)[0]
        if min(len(features), len(real)) > 5:
            metrics["precision"], metrics["recall"] = improved_precision_recall(features, real)
            metrics["density"], metrics["coverage"] = density_coverage(features, real)
        if label == "metrics":
            if bank is not None and len(bank):
                metrics["mifid"] = mifid(metrics["fid"], features, bank)
            for name, distance in (
                ("fid", frechet_distance),
                ("kid", lambda x, y: kernel_distance(x, y)[0]),
            ):
                low, high = set_interval(distance, features, real, resamples=RESAMPLES)
                result.intervals[name] = [low, high]
