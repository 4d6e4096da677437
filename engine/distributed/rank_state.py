"""Separate the state that each process has of its own from the state that all processes share.

Weights, optimizers and the EMA are the same on all ranks. The extra state of a method's modules
(the images of an image pool, the feature maps of a queue) differs between ranks: a checkpoint holds
that of all ranks, and a run that resumes with another number of processes redistributes it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from common.errors import RunError

EXTRA_STATE_SUFFIX = "_extra_state"  # torch's, for state that is not a parameter or buffer
INTEGER_TYPES = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
RankState = dict[str, Any]
"""Key in the method's state dict -> the extra state of one rank."""


def rank_state(state: Mapping[str, Any]) -> RankState:
    """Return the part of a method's state dict that each rank has of its own."""
    return {name: value for name, value in state.items() if name.endswith(EXTRA_STATE_SUFFIX)}


def reshard(rank_states: Sequence[RankState], rank: int, count: int) -> RankState:
    """Return the state of rank `rank` of `count`, from the states of all ranks that saved them.

    The same number of ranks get back their own. Otherwise a rank gets every count-th entry of all,
    and is filled up with other ranks' entries to the length that a rank had before, or to its share
    of all entries where that is more: a full image pool is full again, and a module drops what it
    has no room for.
    """
    if len(rank_states) == count:
        return rank_states[rank]
    return {
        name: _reshard([state[name] for state in rank_states], rank, count)
        for name in rank_states[0]
    }


def _reshard(parts: Sequence[Any], rank: int, count: int) -> Any:
    if isinstance(parts[0], Mapping) and all(part.keys() == parts[0].keys() for part in parts):
        return {key: _reshard([part[key] for part in parts], rank, count) for key in parts[0]}
    rows = [part for part in parts if isinstance(part, Tensor) and part.ndim]
    if not rows or any(part.shape[1:] != rows[0].shape[1:] for part in rows):
        return parts[rank % len(parts)]
    entries = sorted((i, number) for number, part in enumerate(rows) for i in range(len(part)))
    own = list(range(rank, len(entries), count))
    others = [index for index in range(len(entries)) if index % count != rank]
    length = max(len(part) for part in rows) * max(1, -(-len(parts) // count))
    chosen = [entries[index] for index in sorted([*own, *others][:length])]  # still oldest first
    return torch.stack([rows[number][i] for i, number in chosen]) if chosen else rows[0]


def check_ranks_agree(checksums: Sequence[str]) -> None:
    """Raise RunError where the `state_checksum` of a rank is not that of rank 0."""
    for rank, checksum in enumerate(checksums):
        if checksum != checksums[0]:
            raise RunError(
                f"process {rank} has other weights than process 0: the machine or the software is "
                "defective; checkpoints are intact"
            )


def state_checksum(state: Mapping[str, Any]) -> str:
    """Return a checksum of all tensors but the extra state, 16 hexadecimal digits."""
    sums = [bits.sum(dtype=torch.int64) for bits in _as_integers(state)]
    numbers = torch.stack([x.cpu() for x in sums]).tolist() if sums else []
    return hashlib.sha256(repr(numbers).encode()).hexdigest()[:16]


def _as_integers(state: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested mappings but the extra state, its bits as integers."""
    if isinstance(state, Mapping):
        for name, value in state.items():
            if not str(name).endswith(EXTRA_STATE_SUFFIX):
                yield from _as_integers(value)
    elif isinstance(state, Tensor):
        tensor = state.detach().contiguous()
        is_float = tensor.is_floating_point()
        yield tensor.view(INTEGER_TYPES[tensor.itemsize]) if is_float else tensor
