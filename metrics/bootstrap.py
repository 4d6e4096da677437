"""Bootstrap confidence intervals: how much a metric varies between samples of images."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Rows = TypeVar("Rows", Tensor, list[Tensor])


def interval(
    values: Tensor | Sequence[float],
    statistic: Callable[[Tensor], Tensor | float] = torch.mean,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap interval (low, high) of a statistic of per-image values [N, ...].

    Percentile method of Efron and Tibshirani 1993, An Introduction to the Bootstrap, Sec. 13.3:
    `statistic` is evaluated on N rows in float64 that are drawn with replacement, `resamples`
    times; the interval's ends are the quantiles at (1 - confidence) / 2 from either end. The same
    seed draws the same rows. ValueError for empty values or a confidence not between 0 and 1.
    """
    rows = torch.as_tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    statistics = [float(statistic(_resample(rows, generator))) for _ in range(resamples)]
    return _percentiles(statistics, confidence)


def set_interval(
    function: Callable[[Rows, Rows], float],
    fake: Rows,
    real: Rows,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap interval (low, high) of `function(fake, real)`, as `interval` does.

    `fake` and `real` are features [N, D] and [M, D] or lists of images; their rows are drawn
    independently. A resample contains about 63 % of the rows, which raises set distances as a
    smaller set would: for small sets the whole interval may be above the metric itself. Use its
    width, not its position.
    """
    generator = torch.Generator().manual_seed(seed)
    distances = [
        function(_resample(fake, generator), _resample(real, generator)) for _ in range(resamples)
    ]
    return _percentiles(distances, confidence)


def _resample(rows: Rows, generator: torch.Generator) -> Rows:
    if len(rows) == 0:
        raise ValueError("A bootstrap interval needs at least one value.")
    index = torch.randint(len(rows), (len(rows),), generator=generator)
    if isinstance(rows, Tensor):
        return rows[index.to(rows.device)]
    return [rows[i] for i in index.tolist()]


def _percentiles(values: list[float], confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"A confidence must be between 0 and 1, got {confidence}.")
    tail = (1 - confidence) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.tensor(values, dtype=torch.float64).quantile(ends).tolist()
    return low, high
