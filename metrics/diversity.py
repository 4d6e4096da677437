"""Diversity of the translations of one image, and how well they follow their reference style."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pairwise_distance(images: Sequence[Tensor]) -> float:
    """Return the mean absolute difference of all pairs of images [1, C, H, W] in [-1, 1], 0 to 2.

    Multimodal methods report it as diversity; here it is in pixels instead of a network's features
    (Huang et al. 2018, arXiv:1804.04732, Sec. 5.2). 0 if all styles give the same image. ValueError
    for fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"A pairwise distance needs at least two images, got {len(images)}.")
    stack = torch.cat([image.float() for image in images])
    first, second = torch.triu_indices(len(stack), len(stack), offset=1)
    return (stack[first] - stack[second]).abs().mean().item()


def style_accuracy(fakes: Sequence[Sequence[Tensor]], references: Sequence[Tensor]) -> float:
    """Return the share of comparisons in which a fake is nearer to its own than another reference.

    `fakes[i][j]` is image i in the style of reference j, all [1, C, H, W] in [-1, 1]. Each
    comparison is between the distances to its own and to one other reference, in the mean and the
    standard deviation of each channel. Chance is 0.5; at 1 every fake follows its style.
    """
    targets = torch.stack([_moments(reference) for reference in references])
    comparisons = nearer = 0
    for row in fakes:
        for index, fake in enumerate(row):
            distances = (targets - _moments(fake)).norm(dim=1)
            others = torch.cat([distances[:index], distances[index + 1 :]])
            comparisons += len(others)
            nearer += int((distances[index] < others).sum())
    return nearer / comparisons


def _moments(image: Tensor) -> Tensor:
    """Return mean and standard deviation of each channel of [1, C, H, W] as [2 C]."""
    pixels = image.float().flatten(2)[0]
    return torch.cat([pixels.mean(dim=1), pixels.std(dim=1, correction=0)])
