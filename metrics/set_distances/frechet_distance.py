"""Fréchet distance between two sets of features modelled as Gaussians (Heusel et al. 2017)."""

import torch
from torch import Tensor

from metrics.set_distances.finite import require_finite


def frechet_distance(fake: Tensor, real: Tensor) -> float:
    """Return the squared Fréchet distance of two sets of features [N, D] and [M, D].

    GANs Trained by a Two Time-Scale Update Rule (arXiv:1706.08500), Eq. 6, with unbiased
    covariances: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). With Inception's pooled features it is
    the FID. The unit is the features' squared; 0 for equal sets; exact in float64 for any N, M and
    D. It decreases with N and M even between equal distributions, so compare only sets of the same
    sizes. ValueError for fewer than two rows.
    """
    if min(len(fake), len(real)) < 2:
        raise ValueError(
            f"A covariance needs at least two images, got {len(fake)} and {len(real)}."
        )
    require_finite(fake, real)
    fake, real = fake.double(), real.double()
    shift = (fake.mean(dim=0) - real.mean(dim=0)).square().sum()
    one, two = _root(fake), _root(real)
    # S1 = A'A and S2 = B'B: the eigenvalues of S1 S2 are the squared singular values of AB'. This
    # avoids the square root of a singular matrix, in which the textbook formula loses precision.
    trace = torch.linalg.svdvals(one @ two.T).sum()
    distance = shift + one.square().sum() + two.square().sum() - 2 * trace
    return max(0.0, distance.item())  # rounding may leave equal sets a little below 0


def _root(features: Tensor) -> Tensor:
    """Return a matrix A [min(N, D), D] for which A'A is the covariance [D, D]."""
    centered = (features - features.mean(dim=0)) / (len(features) - 1) ** 0.5
    if len(features) <= features.shape[1]:
        return centered
    return torch.linalg.qr(centered, mode="r").R
