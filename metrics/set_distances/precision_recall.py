"""Precision, recall, density and coverage of a set of features, by balls around nearest neighbours.

The ball of an image reaches to its k-th nearest neighbour in its own set; the union of the balls
approximates the manifold of the set.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from metrics.set_distances.finite import require_finite

MAX_BLOCK = 2**23  # distances in memory at once: 64 MiB


def improved_precision_recall(fake: Tensor, real: Tensor, k: int = 3) -> tuple[float, float]:
    """Return precision and recall, 0 to 1, of features [N, D] against [M, D].

    Kynkäänniemi et al. 2019 (arXiv:1904.06991), Eq. 1 and 2: precision is the share of fakes within
    any real image's ball (they look real), recall the share of real images within any fake's ball
    (the generator can produce them). A ball includes its border. Both are 1 for equal sets.
    ValueError unless both sets have more than k rows.
    """
    _require(k, fake, real)
    fake, real = fake.double(), real.double()
    return _share_inside(fake, real, k), _share_inside(real, fake, k)


def density_coverage(fake: Tensor, real: Tensor, k: int = 5) -> tuple[float, float]:
    """Return density (0 and up, ideally about 1) and coverage (0 to 1) of [N, D] against [M, D].

    Naeem et al. 2020 (arXiv:2002.09797), Eq. 4 and 5: density is the mean number of real images'
    balls that contain a fake, divided by k; coverage is the share of real images with a fake in
    their ball. Single outliers change them less than precision and recall. As in the authors' code
    a ball excludes its border, so equal sets without ties have density 1 and coverage 1. ValueError
    unless `real` has more than k rows.
    """
    _require(k, real)
    require_finite(fake)
    fake, real = fake.double(), real.double()
    inside, covered = 0, 0
    radii = _radii(real, k)
    for start, distances in _blocks(real, fake):
        within = distances < radii[start : start + len(distances), None]
        inside += within.sum().item()
        covered += within.any(dim=1).sum().item()
    return inside / (k * len(fake)), covered / len(real)


def _share_inside(points: Tensor, balls: Tensor, k: int) -> float:
    inside = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    radii = _radii(balls, k)
    for start, distances in _blocks(balls, points):
        inside |= (distances <= radii[start : start + len(distances), None]).any(dim=0)
    return inside.double().mean().item()


def _radii(features: Tensor, k: int) -> Tensor:
    """Return each row's distance [N] to its k-th nearest neighbour other than itself."""
    return torch.cat([d.kthvalue(k + 1, dim=1).values for _, d in _blocks(features, features)])


def _blocks(rows: Tensor, columns: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks: the index of the first row, and the distances of these rows to all columns."""
    size = max(1, MAX_BLOCK // len(columns))
    for start in range(0, len(rows), size):
        # Differences instead of a matrix product, which is faster but gives copies a distance above
        # 0 and decides ties on a ball's border by rounding.
        yield (
            start,
            torch.cdist(
                rows[start : start + size], columns, compute_mode="donot_use_mm_for_euclid_dist"
            ),
        )


def _require(k: int, *sets: Tensor) -> None:
    require_finite(*sets)
    if min(len(x) for x in sets) <= k:
        counts = " and ".join(str(len(x)) for x in sets)
        raise ValueError(f"A {k}-th nearest neighbour needs more than {k} images, got {counts}.")
