"""Gradients of a turn, averaged over the processes that share its batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

BUCKET_BYTES = 25 * 2**20  # bytes that travel at once, while the next are being gathered


def average_gradients(
    gradients: Sequence[Tensor], losses: Mapping[str, Tensor], world_size: int, transfer_dtype: torch.dtype | None,
    all_reduce_async: Callable[[Tensor], Any], wait: Callable[[Any], None],
) -> dict[str, Tensor]:  # fmt: skip
    """Put the mean over `processes` in the place of each gradient; return the means of the losses.

    `begin_sum` adds a flat tensor up over all processes, in place, and `finish` waits for it. Gradients
    travel as `wire`, losses as float32. A gradient must be there on all processes or on none.
    """
    values = torch.stack([loss.float() for loss in losses.values()]) / world_size
    sent = all_reduce_async(values)
    pending = []
    for bucket in make_buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket]).div_(world_size)
        flat = flat.to(transfer_dtype) if transfer_dtype else flat
        pending.append((bucket, flat, all_reduce_async(flat)))
    for bucket, flat, work in pending:
        wait(work)
        pieces = flat.split([gradient.numel() for gradient in bucket])
        for gradient, piece in zip(bucket, pieces, strict=True):
            gradient.copy_(piece.view(gradient.shape))
    wait(sent)
    return dict(zip(losses, values.unbind(), strict=True))


def make_buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield gradients in groups of at most BUCKET bytes, a larger one alone."""
    group: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if group and size + gradient.nbytes > BUCKET_BYTES:
            yield group
            group, size = [], 0
        group.append(gradient)
        size += gradient.nbytes
    if group:
        yield group
