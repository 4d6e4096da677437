"""Bootstrap confidence intervals: how much a metric varies between samples of images."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MAX_BLOCK = 2**22  # values that are drawn at once: 32 MiB
FEWEST = (
    20  # values: below, an interval would be too narrow (of 5, it holds the mean in 4 of 5 cases)
)


def interval(
    values: Tensor | Sequence[float],
    statistic: Callable[[Tensor], Tensor] = lambda rows: rows.mean(dim=-1),
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap interval (low, high) of a statistic of per-image values [N].

    Percentile method of Efron and Tibshirani 1993, An Introduction to the Bootstrap, Sec. 13.3:
    `statistic` maps samples [R, N] in float64, whose N values are drawn with replacement, to R
    numbers; the interval's ends are the quantiles at (1 - confidence) / 2 from either end. The same
    seed draws the same values. For fewer than 20 values it is too narrow. ValueError for empty
    values or a confidence not between 0 and 1.
    """
    rows = torch.as_tensor(values, dtype=torch.float64)
    if rows.ndim != 1 or len(rows) == 0:
        raise ValueError("A bootstrap interval needs at least one value.")
    if not 0 < confidence < 1:
        raise ValueError(f"A confidence must be between 0 and 1, got {confidence}.")
    generator = torch.Generator().manual_seed(seed)
    size = max(1, MAX_BLOCK // len(rows))
    statistics = [
        statistic(rows[torch.randint(len(rows), (min(size, resamples - start), len(rows)),
                                     generator=generator)])
        for start in range(0, resamples, size)
    ]  # fmt: skip
    tail = (1 - confidence) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.cat(statistics).quantile(ends).tolist()
    return low, high
