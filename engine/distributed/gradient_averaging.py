"""Gradients of a turn, averaged over the processes that share its batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

BUCKET = 25 * 2**20  # bytes that travel at once, while the next are being gathered


def averaged(
    gradients: Sequence[Tensor], losses: Mapping[str, Tensor], processes: int, wire: torch.dtype | None,
    begin_sum: Callable[[Tensor], Any], finish: Callable[[Any], None],
) -> dict[str, Tensor]:  # fmt: skip
    """Put the mean over `processes` in the place of each gradient; return the means of the losses.

    `begin_sum` adds a flat tensor up over all processes, in place, and `finish` waits for it. Gradients
    travel as `wire`, losses as float32. A gradient must be there on all processes or on none.
    """
    values = torch.stack([loss.float() for loss in losses.values()]) / processes
    sent = begin_sum(values)
    flights = []
    for bucket in buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket]).div_(processes)
        flat = flat.to(wire) if wire else flat
        flights.append((bucket, flat, begin_sum(flat)))
    for bucket, flat, flight in flights:
        finish(flight)
        pieces = flat.split([gradient.numel() for gradient in bucket])
        for gradient, piece in zip(bucket, pieces, strict=True):
            gradient.copy_(piece.view(gradient.shape))
    finish(sent)
    return dict(zip(losses, values.unbind(), strict=True))


def buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield gradients in groups of at most BUCKET bytes, a larger one alone."""
    group: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if group and size + gradient.nbytes > BUCKET:
            yield group
            group, size = [], 0
        group.append(gradient)
        size += gradient.nbytes
    if group:
        yield group
