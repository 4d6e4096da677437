"""Kernel distance between two sets of features (Binkowski et al. 2018)."""

import torch
from torch import Tensor


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


def _kernel(one: Tensor, two: Tensor) -> Tensor:
    return (one @ two.T / one.shape[1] + 1) ** 3


def _mean_off_diagonal(kernel: Tensor) -> Tensor:
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))


def _sample_rows(count: int, size: int, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randperm(count, generator=generator)[:size].to(like.device)
