"""Average the gradients of an update over the processes that share its batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

BUCKET_BYTES = 25 * 2**20  # sent at once, while the next bucket is filled


def average_gradients(
    gradients: Sequence[Tensor], losses: Mapping[str, Tensor], world_size: int,
    transfer_dtype: torch.dtype | None, all_reduce_async: Callable[[Tensor], Any],
    wait: Callable[[Any], None],
) -> dict[str, Tensor]:  # fmt: skip
    """Replace each gradient by its mean over all processes; return the means of the losses.

    `all_reduce_async` starts to sum a flat tensor over all processes, in place, and `wait` waits
    for the result. Gradients are sent as `transfer_dtype` (None: as they are), losses as float32. A
    gradient must exist on all processes or on none.
    """
    values = torch.stack([loss.float() for loss in losses.values()]) / world_size
    losses_work = all_reduce_async(values)
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
    wait(losses_work)
    return dict(zip(losses, values.unbind(), strict=True))


def make_buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield buckets of at most BUCKET_BYTES of gradients; a larger gradient has its own bucket."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and size + gradient.nbytes > BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket
