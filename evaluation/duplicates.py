"""Memorised training images among the fakes, and pictures that stand on both sides of a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from data.tensors import normalize
from metrics.memorization import NEAR, image_descriptor, near_duplicates, nearest

SIDE = 16  # pixels of the thumbnails in which two pictures are compared
APART = (
    0.6  # deviations: copies after JPEG 80 and 10 % less size stay below 0.52, others are over 0.76
)


@dataclass(frozen=True)
class Descriptors:
    """Images of one folder by their weight-free descriptors, and small."""

    label: str  # such as train/photo
    files: list[Path]
    rows: Tensor  # [N, D]
    thumbnails: Tensor  # [N, C, 16, 16], of mean 0 and deviation 1


def image_descriptors(label: str, files: Sequence[Path], images: Sequence[Tensor]) -> Descriptors:
    """Describe uint8 images [1, C, H, W], one for each file."""
    shown = [normalize(image) for image in images]
    rows = torch.cat([image_descriptor(image) for image in shown])
    small = torch.cat([F.interpolate(image, (SIDE, SIDE), mode="area") for image in shown])
    middle, deviation = small.mean((1, 2, 3), keepdim=True), small.std((1, 2, 3), keepdim=True)
    return Descriptors(label, list(files), rows, (small - middle) / (deviation + 1e-6))


def copies(fakes: Descriptors, trained: Descriptors) -> list[tuple[float, Path, bool]]:
    """Return for each fake how far its nearest training image is, which one, and whether it is a copy."""
    distances, indices = nearest(fakes.rows, trained.rows, 1)
    return [
        (distance, trained.files[index], distance < NEAR and same_picture(fakes, n, trained, index))
        for n, (distance, index) in enumerate(
            zip(distances[:, 0].tolist(), indices[:, 0].tolist(), strict=True)
        )
    ]


def leaks(folders: Sequence[Descriptors]) -> list[dict[str, str | float]]:
    """Return the pictures that are in two of the folders, nearest first."""
    found: list[dict[str, str | float]] = []
    for one, other in combinations(folders, 2):
        if one.rows.shape[1] != other.rows.shape[1]:
            continue
        pairs, distances = near_duplicates(one.rows, other.rows, NEAR)
        found += [
            {"first": str(one.files[i]), "second": str(other.files[j]),
             "between": f"{one.label} and {other.label}", "distance": round(distance, 5)}
            for (i, j), distance in zip(pairs.tolist(), distances.tolist(), strict=True)
            if same_picture(one, i, other, j)
        ]  # fmt: skip
    return sorted(found, key=lambda row: row["distance"])


def same_picture(one: Descriptors, i: int, other: Descriptors, j: int) -> bool:
    """Say whether two near images are alike at every place.

    Descriptors of plain pictures (a sky over a field) are near each other whatever stands in them.
    """
    return (one.thumbnails[i] - other.thumbnails[j]).abs().max().item() < APART
