"""Describe each image of a set once: what the set metrics need, without its pixels."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from data.tensors import denormalize
from evaluation.pretrained_networks import Inception
from metrics.faithfulness import edge_grid
from metrics.set_distances.color_and_spectrum import MAX_RINGS, color_histogram, log_spectrum
from metrics.set_distances.memorization import image_descriptor
from metrics.set_distances.sliced_wasserstein import PATCH, Descriptors, describe, pyramid_levels

MAX_PATCH_IMAGES = 300  # of a set, evenly spaced, that the sliced Wasserstein distance compares
THUMBNAIL_SIZE = 16  # pixels of a side


@dataclass(frozen=True)
class Description:
    """How the images of an evaluation are described; the same for all of its sets."""

    side: int  # pixels of the smallest side of all images
    inception: Inception | None = None

    @property
    def levels(self) -> int:
        """Number of levels of a pyramid; 0 where the images have no neighbourhoods."""
        return pyramid_levels(torch.empty(self.side, self.side)) if self.side >= PATCH else 0

    @property
    def rings(self) -> int:
        """Number of rings of a spectrum; 0 where the images have none."""
        return min(MAX_RINGS, self.side // 2)


@dataclass
class CopyIndex:
    """What tells whether an image is in a set: 5 KB for each RGB image, with Inception 13 KB."""

    label: str  # such as train/photo
    files: list[Path] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)  # [512], of length 1
    thumbnails: list[Tensor] = field(default_factory=list)  # [C, 16, 16], mean 0 and deviation 1
    features: list[Tensor] = field(default_factory=list)  # [2048], of RGB images with Inception

    def __len__(self) -> int:
        return len(self.files)

    @property
    def channels(self) -> int:
        """Number of channels of the images; 0 for an empty index."""
        return len(self.thumbnails[0]) if self.thumbnails else 0

    def add(self, file: Path, image: Tensor, feature: Tensor | None = None) -> None:
        """Add an image [1, C, H, W] in [-1, 1], and its feature where it has one."""
        self.files.append(file)
        self.vectors.append(image_descriptor(image)[0].float())
        small = F.interpolate(image.float(), (THUMBNAIL_SIZE, THUMBNAIL_SIZE), mode="area")[0]
        self.thumbnails.append((small - small.mean()) / (small.std() + 1e-6))
        if feature is not None:
            self.features.append(feature)


@dataclass
class ImageSet:
    """The descriptors of a set of images, one row for each, from which distances are computed.

    An RGB image takes about 8 KB, and 75 KB for each level of its pyramid if its neighbourhoods are
    stored, which those of at most 300 images are; with Inception 8 KB more.
    """

    description: Description
    with_patches: Collection[Path] = ()  # the files whose neighbourhoods are stored
    files: list[Path] = field(default_factory=list)
    histograms: list[Tensor] = field(default_factory=list)  # [C, 256]
    spectra: list[Tensor] = field(default_factory=list)  # [rings]
    edges: list[Tensor] = field(default_factory=list)  # [1024]
    features: list[Tensor] = field(default_factory=list)  # [2048], of RGB images with Inception
    patches: dict[int, Descriptors] = field(default_factory=dict)  # row -> neighbourhoods

    def __len__(self) -> int:
        return len(self.files)

    @property
    def channels(self) -> int:
        """Number of channels of the images; 0 for an empty set."""
        return len(self.histograms[0]) if self.histograms else 0

    def add(self, file: Path, image: Tensor, feature: Tensor | None = None) -> None:
        """Describe an image [1, C, H, W] in [-1, 1]; `feature` is its own where it has one."""
        x = image.float()
        row = len(self.files)
        self.files.append(file)
        self.histograms.append(color_histogram(x).float())
        if self.description.rings:
            self.spectra.append(log_spectrum(x, self.description.rings).float())
        self.edges.append(edge_grid(x)[0])
        if self.description.levels and file in self.with_patches:
            self.patches[row] = describe(x, self.description.levels, row)
        if feature is not None:
            self.features.append(feature)

    def rows(self, chosen: Collection[int]) -> "ImageSet":
        """Return the set of the chosen rows."""
        picked = sorted(chosen)
        subset = ImageSet(self.description)
        for name in ("files", "histograms", "spectra", "edges", "features"):
            values = getattr(self, name)
            setattr(subset, name, [values[row] for row in picked] if values else [])
        subset.patches = {
            number: self.patches[row] for number, row in enumerate(picked) if row in self.patches
        }
        return subset


@dataclass
class DescribedImages:
    """The images of one folder or one direction: those that are compared, and an index of all."""

    images: ImageSet
    index: CopyIndex
    compared: Collection[Path] | None = None  # the files in `images`; None: all

    def add(self, file: Path, image: Tensor) -> None:
        """Describe an image [1, C, H, W] in [-1, 1]."""
        inception = self.images.description.inception
        feature = (
            inception([denormalize(image)])[0]
            if inception is not None and image.shape[1] == 3 else None
        )  # fmt: skip
        self.index.add(file, image, feature)
        if self.compared is None or file in self.compared:
            self.images.add(file, image, feature)
