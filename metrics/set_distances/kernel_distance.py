"""Kernel distance between two sets of features (Binkowski et al. 2018)."""

from statistics import NormalDist

import torch
from torch import Tensor

from metrics.set_distances.finite import require_finite

MAX_BLOCK = 2**23  # values of the kernel in memory at once: 64 MiB


def kernel_distance(
    fake: Tensor, real: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return mean and standard deviation over random subsets of the squared kernel distance.

    Demystifying MMD GANs (arXiv:1801.01401), Sec. 4: of features [N, D] and [M, D], `subset_size`
    rows of each are drawn without replacement, `subsets` times; with Inception's pooled features it
    is the KID. `subset_size` is lowered to the smaller of N and M. The estimate is unbiased: for
    two sets of one distribution it is about 0, as often below as above, whatever their sizes. The
    same seed draws the same subsets. ValueError for fewer than two rows.
    """
    size = min(subset_size, len(fake), len(real))
    if size < 2:
        raise ValueError(
            f"A kernel distance needs at least two images, got {len(fake)} and {len(real)}."
        )
    require_finite(fake, real)
    if size == len(fake) == len(real):
        subsets = 1  # every subset would be the whole set
    generator = torch.Generator().manual_seed(seed)
    fake, real = fake.double(), real.double()
    values = torch.tensor(
        [
            squared_mmd(*(x[_sample_rows(len(x), size, generator, x)] for x in (fake, real)))
            for _ in range(subsets)
        ],
        dtype=torch.float64,
    )
    return values.mean().item(), values.std(correction=0).item()


def squared_mmd(fake: Tensor, real: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy of features [N, D] and [M, D].

    Gretton et al. 2012 (JMLR 13, Eq. 3) with the kernel (x'y / D + 1)^3; it may be negative.
    """
    fake, real = fake.double(), real.double()
    within = _mean_off_diagonal(_kernel(fake, fake)) + _mean_off_diagonal(_kernel(real, real))
    return (within - 2 * _kernel(fake, real).mean()).item()


def kernel_distance_interval(
    fake: Tensor, real: Tensor, confidence: float = 0.95
) -> tuple[float, float]:
    """Return an interval (low, high) of the squared kernel distance of two distributions.

    Features are [N, D] and [M, D], of at least three rows each. The ends are the estimate from all
    rows, plus and minus quantiles of the normal distribution times the jackknife's standard error
    of a two-sample statistic (Arvesen 1969, Annals of Mathematical Statistics 40(6)): each row is
    left out once. A bootstrap would not do, since rows that are drawn twice are nearer to each
    other than the rows of any distribution. Between equal distributions the interval is wider than
    it needs to be.
    """
    fake, real = fake.double(), real.double()
    n, m = len(fake), len(real)
    if min(n, m) < 3:
        raise ValueError(f"A jackknife interval needs at least three images, got {n} and {m}.")
    require_finite(fake, real)
    within_fake, within_real = _row_sums(fake, fake), _row_sums(real, real)
    within_fake -= _diagonal(fake)
    within_real -= _diagonal(real)
    across, back = _row_sums(fake, real), _row_sums(real, fake)

    def statistic(fakes: Tensor, reals: Tensor, both: Tensor, n: int, m: int) -> Tensor:
        return fakes / (n * (n - 1)) + reals / (m * (m - 1)) - 2 * both / (n * m)

    fakes, reals, both = within_fake.sum(), within_real.sum(), across.sum()
    center = statistic(fakes, reals, both, n, m)
    without_fake = statistic(fakes - 2 * within_fake, reals, both - across, n - 1, m)
    without_real = statistic(fakes, reals - 2 * within_real, both - back, n, m - 1)
    variance = (n - 1) * without_fake.var(correction=0) + (m - 1) * without_real.var(correction=0)
    width = NormalDist().inv_cdf((1 + confidence) / 2) * variance.sqrt()
    return (center - width).item(), (center + width).item()


def _row_sums(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the sum of each row of the kernel's matrix [N, M], block by block."""
    size = max(1, MAX_BLOCK // len(columns))
    return torch.cat([_kernel(block, columns).sum(dim=1) for block in rows.split(size)])


def _diagonal(rows: Tensor) -> Tensor:
    return (rows.square().sum(dim=1) / rows.shape[1] + 1) ** 3


def _kernel(one: Tensor, two: Tensor) -> Tensor:
    return (one @ two.T / one.shape[1] + 1) ** 3


def _mean_off_diagonal(kernel: Tensor) -> Tensor:
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))


def _sample_rows(count: int, size: int, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randperm(count, generator=generator)[:size].to(like.device)
