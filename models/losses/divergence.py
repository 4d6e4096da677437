"""Divergences between the distribution of latent codes and a prior."""

from torch import Tensor


def unit_gaussian_kl(mean: Tensor) -> Tensor:
    """Return the mean square of the means [B, ...] of Gaussians of variance 1, a float32 scalar.

    This is twice their KL divergence from N(0, I) per dimension of the code: KL = mean^2 / 2
    (Kingma & Welling 2014, arXiv:1312.6114, App. B, with sigma = 1). UNIT's code omits the factor
    1/2.
    """
    return mean.float().square().mean()
