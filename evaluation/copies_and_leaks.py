"""Find fakes that copy a training image, and images that are in two folders of a data set."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch

from evaluation.image_sets import CopyIndex
from metrics.set_distances.memorization import MAX_COPY_DISTANCE, near_duplicates, nearest

# Largest difference of two standardized thumbnails of one picture, in standard deviations: copies
# after JPEG 80 and 10 % less size stay below 0.52, other pictures are over 0.76.
MAX_THUMBNAIL_DIFFERENCE = 0.6


def nearest_training_images(
    fakes: CopyIndex, training: CopyIndex
) -> list[tuple[float, Path, bool]]:
    """Return each fake's nearest training image: (distance, file, whether the fake is a copy).

    The distance is the cosine distance of descriptors, 0 to 2.
    """
    distances, indices = nearest(torch.stack(fakes.vectors), torch.stack(training.vectors), 1)
    pairs = zip(distances[:, 0].tolist(), indices[:, 0].tolist(), strict=True)
    return [
        (
            distance,
            training.files[index],
            distance < MAX_COPY_DISTANCE and is_same_picture(fakes, number, training, index),
        )
        for number, (distance, index) in enumerate(pairs)
    ]


def find_leaks(folders: Sequence[CopyIndex]) -> list[dict[str, str | float]]:
    """Return the pairs of files in two folders that show one picture, nearest first.

    A pair is {"first": file, "second": file, "between": both labels, "distance": cosine distance}.
    Folders whose images differ in the number of channels are not compared.
    """
    leaks: list[dict[str, str | float]] = []
    for one, other in combinations(folders, 2):
        if not (one.files and other.files) or one.channels != other.channels:
            continue
        vectors = torch.stack(one.vectors), torch.stack(other.vectors)
        pairs, distances = near_duplicates(*vectors, MAX_COPY_DISTANCE)
        leaks += [
            {"first": str(one.files[i]), "second": str(other.files[j]),
             "between": f"{one.label} and {other.label}", "distance": round(distance, 5)}
            for (i, j), distance in zip(pairs.tolist(), distances.tolist(), strict=True)
            if is_same_picture(one, i, other, j)
        ]  # fmt: skip
    return sorted(leaks, key=lambda leak: leak["distance"])


def is_same_picture(one: CopyIndex, i: int, other: CopyIndex, j: int) -> bool:
    """Return whether the thumbnails of two images with near descriptors are alike at every pixel.

    Descriptors alone do not suffice: simple pictures (a sky over a field) have near descriptors
    whatever objects they show.
    """
    difference = (one.thumbnails[i] - other.thumbnails[j]).abs().max().item()
    return difference < MAX_THUMBNAIL_DIFFERENCE
