"""How far a distribution of codes is from the one it should be."""

from torch import Tensor


def unit_gaussian_kl(mean: Tensor) -> Tensor:
    """Return the mean square of the means [B, ...] of Gaussians of variance 1, a float32 scalar.

    That is twice their KL divergence from N(0, I) for each number of a code: KL = mean^2 / 2
    (Kingma & Welling 2014, arXiv:1312.6114, App. B, with sigma = 1). UNIT's code leaves the half out.
    """
    return mean.float().square().mean()
