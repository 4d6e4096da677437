"""What a texture is: statistics of features, whatever their places, and how far two of them are apart."""

import torch
from torch import Tensor

from models.losses.reconstruction import l2

EPSILON = 1e-5  # keeps the deviation of a constant channel, and its gradient, finite


def gram(features: Tensor) -> Tensor:
    """Return which channels of [B, C, H, W] go together: [B, C, C], float32, over C H W.

    Johnson et al. 2016 (arXiv:1603.08155), Eq. 3; Gatys et al. do not divide.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)
        return flat @ flat.transpose(1, 2) / flat[0].numel()


def gram_energy(found: Tensor, target: Tensor) -> Tensor:
    """Return E_l of Gatys et al. 2015 (arXiv:1508.06576), Eq. 4, of Grams [B, C, C] over C H W: a scalar.

    The paper's sum over 4 N^2 M^2 of plain Grams is a quarter of the sum of these, and then pictures
    of two sizes can be compared.
    """
    return (found - target).square().sum(dim=(1, 2)).mean() / 4


def mean_and_deviation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and standard deviation over places, [B, C, 1, 1] each, float32."""
    variance, mean = torch.var_mean(features.float(), dim=(2, 3), correction=0, keepdim=True)
    return mean, (variance + EPSILON).sqrt()


def statistics_distance(features: Tensor, target: Tensor) -> Tensor:
    """Return how far means and deviations of two [B, C, H, W] are apart, a scalar.

    A layer's term of Huang & Belongie 2017 (arXiv:1703.06868), Eq. 13, squared as in their code.
    """
    pairs = zip(mean_and_deviation(features), mean_and_deviation(target), strict=True)
    return torch.stack([l2(found, wanted) for found, wanted in pairs]).sum()


def total_variation(image: Tensor) -> Tensor:
    """Return the mean squared difference of neighbours, down plus across, a float32 scalar."""
    down, across = image.float().diff(dim=2), image.float().diff(dim=3)
    return down.square().mean() + across.square().mean()
