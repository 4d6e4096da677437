"""Distance between two sets of features taken as Gaussians (Heusel et al. 2017)."""

import torch
from torch import Tensor


def frechet_distance(fake: Tensor, real: Tensor) -> float:
    """Return the squared Fréchet distance of two sets of features [N, D] and [M, D].

    GANs Trained by a Two Time-Scale Update Rule (arXiv:1706.08500), Eq. 6, with unbiased covariances:
    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). With Inception's pooled features it is the FID. In the
    features' units squared, 0 for equal sets, exact in float64 for any N, M and D; it falls with N and
    M even between equal distributions, so compare only sets of the same sizes. ValueError for fewer
    than two rows.
    """
    if min(len(fake), len(real)) < 2:
        raise ValueError(
            f"A covariance needs two images at least, not {len(fake)} and {len(real)}."
        )
    fake, real = fake.double(), real.double()
    shift = (fake.mean(dim=0) - real.mean(dim=0)).square().sum()
    one, two = _root(fake), _root(real)
    # S1 = A'A and S2 = B'B: the eigenvalues of S1 S2 are the squared singular values of AB'. No
    # square root of a singular matrix is taken, which is where the textbook's way loses its digits.
    shared = torch.linalg.svdvals(one @ two.T).sum()
    distance = shift + one.square().sum() + two.square().sum() - 2 * shared
    return max(0.0, distance.item())  # rounding may leave equal sets a little below 0


def _root(features: Tensor) -> Tensor:
    """Return a matrix [min(N, D), D] whose product with itself, A'A, is the covariance [D, D]."""
    centred = (features - features.mean(dim=0)) / (len(features) - 1) ** 0.5
    if len(features) <= features.shape[1]:
        return centred
    return torch.linalg.qr(centred, mode="r").R
