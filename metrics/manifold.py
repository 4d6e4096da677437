"""How much of a set of features lies within another, by balls around neighbours.

Every real image has a ball reaching to its k-th nearest real neighbour, and the balls together stand
for the set.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**23  # distances held at once: 64 MiB


def improved_precision_recall(fake: Tensor, real: Tensor, k: int = 3) -> tuple[float, float]:
    """Return precision and recall, 0 to 1, of features [N, D] against [M, D].

    Kynkäänniemi et al. 2019 (arXiv:1904.06991), Eq. 1 and 2: the share of fakes within any real image's
    ball (they look real), and the share of real images within any fake's ball (they can be made). A
    ball holds its border. 1 and 1 for equal sets. ValueError unless both sets have more than k rows.
    """
    _require(k, fake, real)
    fake, real = fake.double(), real.double()
    return _share_within(fake, real, k), _share_within(real, fake, k)


def density_coverage(fake: Tensor, real: Tensor, k: int = 5) -> tuple[float, float]:
    """Return density (0 and up, about 1 when all is well) and coverage (0 to 1) of [N, D] against [M, D].

    Naeem et al. 2020 (arXiv:2002.09797), Eq. 4 and 5: how many real images' balls a fake lies in on
    average, in units of k, and the share of real images with a fake in their ball. Steadier than
    precision and recall against single outliers. As in the authors' figures a ball ends before its
    border, so that equal sets without ties have density 1 and coverage 1. ValueError unless `real`
    has more than k rows.
    """
    _require(k, real)
    fake, real = fake.double(), real.double()
    inside, covered = 0, 0
    radii = _radii(real, k)
    for start, distances in _blocks(real, fake):
        within = distances < radii[start : start + len(distances), None]
        inside += within.sum().item()
        covered += within.any(dim=1).sum().item()
    return inside / (k * len(fake)), covered / len(real)


def _share_within(points: Tensor, balls: Tensor, k: int) -> float:
    inside = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    radii = _radii(balls, k)
    for start, distances in _blocks(balls, points):
        inside |= (distances <= radii[start : start + len(distances), None]).any(dim=0)
    return inside.double().mean().item()


def _radii(features: Tensor, k: int) -> Tensor:
    """Return each row's distance [N] to its k-th nearest neighbour, itself not counted."""
    return torch.cat([d.kthvalue(k + 1, dim=1).values for _, d in _blocks(features, features)])


def _blocks(rows: Tensor, columns: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the distances of some rows to all columns at a time, with the first row's number."""
    size = max(1, BLOCK // len(columns))
    for start in range(0, len(rows), size):
        # By differences: a product of matrices is quicker, but leaves copies at a distance above 0
        # and makes ties on a ball's border a matter of rounding.
        yield (
            start,
            torch.cdist(
                rows[start : start + size], columns, compute_mode="donot_use_mm_for_euclid_dist"
            ),
        )


def _require(k: int, *sets: Tensor) -> None:
    if min(len(x) for x in sets) <= k:
        counts = " and ".join(str(len(x)) for x in sets)
        raise ValueError(f"A {k}-th nearest neighbour needs more than {k} images, not {counts}.")
