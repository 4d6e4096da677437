"""Find fakes that copy a training image, and images that are in two folders of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from data.tensors import normalize
from metrics.memorization import MAX_COPY_DISTANCE, image_descriptor, near_duplicates, nearest

THUMBNAIL_SIZE = 16  # pixels of a side
# Largest difference of two standardized thumbnails of one picture, in standard deviations: copies
# after JPEG 80 and 10 % less size stay below 0.52, other pictures are over 0.76.
MAX_THUMBNAIL_DIFFERENCE = 0.6


@dataclass(frozen=True)
class Descriptors:
    """Weight-free descriptors and thumbnails of the images of one folder."""

    label: str  # such as train/photo
    files: list[Path]
    vectors: Tensor  # [N, D]
    thumbnails: Tensor  # [N, C, 16, 16], each of mean 0 and standard deviation 1


def image_descriptors(label: str, files: Sequence[Path], images: Sequence[Tensor]) -> Descriptors:
    """Return the descriptors of uint8 images [1, C, H, W], one for each file."""
    floats = [normalize(image) for image in images]
    vectors = torch.cat([image_descriptor(image) for image in floats])
    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    small = torch.cat([F.interpolate(image, size, mode="area") for image in floats])
    mean, std = small.mean((1, 2, 3), keepdim=True), small.std((1, 2, 3), keepdim=True)
    return Descriptors(label, list(files), vectors, (small - mean) / (std + 1e-6))


def nearest_training_images(
    fakes: Descriptors, training: Descriptors
) -> list[tuple[float, Path, bool]]:
    """Return each fake's nearest training image: (distance, file, whether the fake is a copy).

    The distance is the cosine distance of descriptors, 0 to 2.
    """
    distances, indices = nearest(fakes.vectors, training.vectors, 1)
    pairs = zip(distances[:, 0].tolist(), indices[:, 0].tolist(), strict=True)
    return [
        (
            distance,
            training.files[index],
            distance < MAX_COPY_DISTANCE and is_same_picture(fakes, number, training, index),
        )
        for number, (distance, index) in enumerate(pairs)
    ]


def find_leaks(folders: Sequence[Descriptors]) -> list[dict[str, str | float]]:
    """Return the pairs of files in two folders that show one picture, nearest first.

    A pair is {"first": file, "second": file, "between": both labels, "distance": cosine distance}.
    Folders whose descriptors differ in length are not compared.
    """
    leaks: list[dict[str, str | float]] = []
    for one, other in combinations(folders, 2):
        if one.vectors.shape[1] != other.vectors.shape[1]:
            continue
        pairs, distances = near_duplicates(one.vectors, other.vectors, MAX_COPY_DISTANCE)
        leaks += [
            {"first": str(one.files[i]), "second": str(other.files[j]),
             "between": f"{one.label} and {other.label}", "distance": round(distance, 5)}
            for (i, j), distance in zip(pairs.tolist(), distances.tolist(), strict=True)
            if is_same_picture(one, i, other, j)
        ]  # fmt: skip
    return sorted(leaks, key=lambda leak: leak["distance"])


def is_same_picture(one: Descriptors, i: int, other: Descriptors, j: int) -> bool:
    """Return whether the thumbnails of two images with near descriptors are alike at every pixel.

    Descriptors alone do not suffice: simple pictures (a sky over a field) have near descriptors
    whatever objects they show.
    """
    difference = (one.thumbnails[i] - other.thumbnails[j]).abs().max().item()
    return difference < MAX_THUMBNAIL_DIFFERENCE
