"""How far a figure would move with other images of the same kind: bootstrap intervals."""

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
    """Return the percentile bootstrap interval (low, high) of a statistic of per-image values [N, ...].

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, Sec. 13.3: `statistic` takes N rows in
    float64, drawn with repetition, `resamples` times; the quantiles at (1 - confidence) / 2 from
    either end. The same seed draws the same rows. ValueError without values or for a confidence
    outside 0 to 1.
    """
    rows = torch.as_tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    figures = [float(statistic(_resample(rows, generator))) for _ in range(resamples)]
    return _percentiles(figures, confidence)


def set_interval(
    function: Callable[[Rows, Rows], float],
    fake: Rows,
    real: Rows,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval (low, high) of `function(fake, real)`, as `interval`.

    `fake` and `real` are features [N, D] and [M, D] or lists of images; their rows are drawn independently.
    A resample holds about 63 % different rows, which raises set distances as a smaller set would:
    between small sets the whole interval may lie above the figure itself. Its width is what to use.
    """
    generator = torch.Generator().manual_seed(seed)
    figures = [
        function(_resample(fake, generator), _resample(real, generator)) for _ in range(resamples)
    ]
    return _percentiles(figures, confidence)


def _resample(rows: Rows, generator: torch.Generator) -> Rows:
    if len(rows) == 0:
        raise ValueError("A bootstrap interval needs one value at least.")
    index = torch.randint(len(rows), (len(rows),), generator=generator)
    if isinstance(rows, Tensor):
        return rows[index.to(rows.device)]
    return [rows[i] for i in index.tolist()]


def _percentiles(figures: list[float], confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"A confidence lies between 0 and 1, not at {confidence}.")
    tail = (1 - confidence) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.tensor(figures, dtype=torch.float64).quantile(ends).tolist()
    return low, high
