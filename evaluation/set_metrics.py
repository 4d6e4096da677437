"""Measure the distance of a set of fakes to real images, next to two baselines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from data.folders import evenly_spaced
from evaluation.image_sets import ImageSet
from metrics.faithfulness import own_source_found
from metrics.set_distances.color_and_spectrum import histogram_distance
from metrics.set_distances.frechet_distance import frechet_distance
from metrics.set_distances.kernel_distance import kernel_distance, kernel_distance_interval
from metrics.set_distances.memorization import mifid
from metrics.set_distances.precision_recall import density_coverage, improved_precision_recall
from metrics.set_distances.sliced_wasserstein import distances

NEIGHBOURS = 5  # images that precision, recall, density and coverage need beside each


@dataclass
class SetMetrics:
    """Set metrics of fakes, of other real images (the floor) and of inputs (the ceiling)."""

    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    real_baseline: dict[str, float] = field(default_factory=dict)
    copy_baseline: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # why a metric is missing


def set_metrics(
    fakes: ImageSet, reals: ImageSet, sources: ImageSet, trained: ImageSet, paired: bool = False,
    bank: Sequence[Tensor] = (),
) -> SetMetrics:  # fmt: skip
    """Return the set metrics of described images.

    `fakes` are the translations and `sources` their inputs; `reals` are the held-out images of the
    target domain, the reference of every metric; `trained` are training images of the target
    domain. The real baseline (the floor) compares `trained` with the reference: a perfect
    translator can expect no better from so few images. The copy baseline (the ceiling) compares
    `sources` with it. `bank` holds the features of all training images, for MiFID.

    Where the held-out images are `paired`, they show the same scenes as the inputs, and are nearer
    to the fakes than independent images could be: then the training images are the reference, and
    the held-out images give the real baseline. Without held-out images of the target domain, the
    training images are the reference too, and there is no real baseline.

    Only the kernel distance has an interval: the other distances are larger in a small set than
    between the distributions, by more than they vary (`python benchmarks/interval_coverage.py`).
    Sets of fewer than two images, or with other channels than the reference, have no metrics.
    """
    result = SetMetrics()
    swap = (paired or len(reals) < 2) and len(trained) > 1
    reference, others = (trained, reals) if swap else (reals, trained)
    if len(others) > len(fakes):  # distances of more images would be lower
        others = others.rows(evenly_spaced(range(len(others)), len(fakes)))
    sets = {"metrics": fakes, "copy_baseline": sources, "real_baseline": others}
    usable = {
        label: each for label, each in sets.items()
        if len(each) > 1 and len(reference) > 1 and each.channels == reference.channels
    }  # fmt: skip
    _add_distances(result, usable, reference)
    if reference.features:
        for label, each in usable.items():
            _add_feature_metrics(result, label, each, reference)
        if "fid" in result.metrics and bank:
            _try(result, "MiFID", lambda: {"mifid": mifid(
                result.metrics["fid"], torch.stack(fakes.features), torch.stack(list(bank))
            )}, "metrics")  # fmt: skip
    if len(fakes) > 1 and len(fakes) == len(sources):
        edges = torch.stack(fakes.edges), torch.stack(sources.edges)
        result.metrics["own_source"] = own_source_found(*edges)
    return result


def _add_distances(result: SetMetrics, sets: dict[str, ImageSet], reference: ImageSet) -> None:
    """Add the distances that need no pretrained network."""
    patches = {label: list(each.patches.values()) for label, each in sets.items()}
    fakes = len(patches.get("metrics", ()))
    if "real_baseline" in patches:
        patches["real_baseline"] = evenly_spaced(patches["real_baseline"], fakes)
    patches = {label: each for label, each in patches.items() if each}
    if patches and reference.patches:
        for label, distance in distances(patches, list(reference.patches.values())).items():
            getattr(result, label)["swd"] = distance
    for label, each in sets.items():
        metrics = getattr(result, label)
        metrics["color"] = histogram_distance(_mean(each.histograms), _mean(reference.histograms))
        if each.spectra and reference.spectra:
            difference = _mean(each.spectra) - _mean(reference.spectra)
            metrics["spectrum"] = difference.abs().mean().item()


def _add_feature_metrics(
    result: SetMetrics, label: str, images: ImageSet, reference: ImageSet
) -> None:
    """Add FID, KID, precision, recall, density and coverage."""
    features, real = torch.stack(images.features), torch.stack(reference.features)

    def measure() -> dict[str, Any]:
        measured = {
            "fid": frechet_distance(features, real), "kid": kernel_distance(features, real)[0]
        }  # fmt: skip
        if min(len(features), len(real)) > NEIGHBOURS:
            precision_recall = improved_precision_recall(features, real)
            measured["precision"], measured["recall"] = precision_recall
            measured["density"], measured["coverage"] = density_coverage(features, real)
        if label == "metrics" and min(len(features), len(real)) > 2:
            result.intervals["kid"] = list(kernel_distance_interval(features, real))
        return measured

    _try(result, f"FID and KID ({label.replace('_', ' ')})", measure, label)


def _try(result: SetMetrics, name: str, measure: Callable[[], dict[str, Any]], label: str) -> None:
    """Add what `measure` returns, or a note where values are not finite."""
    try:
        getattr(result, label).update(measure())
    except ValueError as error:
        result.notes.append(f"{name} left out: {error}")


def _mean(rows: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(rows)).double().mean(dim=0)
