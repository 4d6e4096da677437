"""Style losses: distances between statistics of features that ignore positions."""

import torch
from torch import Tensor

from models.losses.reconstruction import l2

EPSILON = 1e-5  # keeps the std of a constant channel above 0, and its gradient finite


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrices of features [B, C, H, W], divided by C H W: [B, C, C], float32.

    Johnson et al. 2016 (arXiv:1603.08155), Eq. 3; Gatys et al. do not divide.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)
        return flat @ flat.transpose(1, 2) / flat[0].numel()


def gram_energy(grams: Tensor, target: Tensor) -> Tensor:
    """Return E_l of Gatys et al. 2015 (arXiv:1508.06576), Eq. 4, for [B, C, C] of `gram`: a scalar.

    The paper sums squared differences of undivided Gram matrices and divides by 4 N^2 M^2. A
    quarter of the sum for matrices divided by C H W is equal, and also compares images of two
    sizes.
    """
    return (grams - target).square().sum(dim=(1, 2)).mean() / 4


def mean_and_std(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and standard deviation over positions, [B, C, 1, 1], float32."""
    variance, mean = torch.var_mean(features.float(), dim=(2, 3), correction=0, keepdim=True)
    return mean, (variance + EPSILON).sqrt()


def statistics_distance(features: Tensor, target: Tensor) -> Tensor:
    """Return the distance between channel means plus that between standard deviations, a scalar.

    Both arguments are [B, C, H, W]. One layer's term of Huang & Belongie 2017 (arXiv:1703.06868),
    Eq. 13, squared as in their code.
    """
    pairs = zip(mean_and_std(features), mean_and_std(target), strict=True)
    return torch.stack([l2(statistic, wanted) for statistic, wanted in pairs]).sum()


def total_variation(image: Tensor) -> Tensor:
    """Return the mean squared difference of neighbouring pixels, a float32 scalar.

    The means over vertical and over horizontal neighbours are added.
    """
    down, across = image.float().diff(dim=2), image.float().diff(dim=3)
    return down.square().mean() + across.square().mean()
