"""How much translations of one image differ, and whether they follow the image whose style they took."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pairwise_distance(images: Sequence[Tensor]) -> float:
    """Return the mean absolute difference of all pairs of images [1, C, H, W] in [-1, 1], 0 to 2.

    What multimodal methods report as diversity, in pixels instead of a network's features (Huang et
    al. 2018, arXiv:1804.04732, Sec. 5.2). 0 where every style gives one picture.
    """
    if len(images) < 2:
        raise ValueError(f"A distance of pairs needs two images at least, got {len(images)}.")
    stack = torch.cat([image.float() for image in images])
    first, second = torch.triu_indices(len(stack), len(stack), offset=1)
    return (stack[first] - stack[second]).abs().mean().item()


def style_accuracy(fakes: Sequence[Sequence[Tensor]], references: Sequence[Tensor]) -> float:
    """Return the share of cases in which a fake is nearer to its own reference than to another one.

    `fakes[i][j]` is image i in the style of reference j, all [1, C, H, W] in [-1, 1]; near is in the
    mean and the deviation of each colour. Chance is 0.5, and 1 is a style that is always followed.
    """
    aims = torch.stack([_moments(reference) for reference in references])
    cases = followed = 0
    for row in fakes:
        for own, fake in enumerate(row):
            distances = (aims - _moments(fake)).norm(dim=1)
            others = torch.cat([distances[:own], distances[own + 1 :]])
            cases += len(others)
            followed += int((distances[own] < others).sum())
    return followed / cases


def _moments(image: Tensor) -> Tensor:
    """Return mean and deviation of each channel of [1, C, H, W], [2 C]."""
    pixels = image.float().flatten(2)[0]
    return torch.cat([pixels.mean(dim=1), pixels.std(dim=1, correction=0)])
