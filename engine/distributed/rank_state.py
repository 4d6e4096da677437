"""What the processes of a run have in common, and what each remembers of its own part of the images.

Weights, optimizers and averages are the same everywhere. The extra state of a method's modules (the
images of a history, the maps of a queue) is a process's own: every checkpoint holds that of all, and a
run that is continued by another number of processes deals it out anew.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from common.errors import RunError

EXTRA_STATE_SUFFIX = (
    "_extra_state"  # how torch ends the names of what is no parameter and no buffer
)
INTEGER_TYPES = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
RankState = dict[str, Any]
"""Name in the method's state -> what one process remembers under it."""


def rank_state(state: Mapping[str, Any]) -> RankState:
    """Return what in a method's state is the process's own."""
    return {name: value for name, value in state.items() if name.endswith(EXTRA_STATE_SUFFIX)}


def reshard(rank_states: Sequence[RankState], rank: int, count: int) -> RankState:
    """Return what process `rank` of `count` is to remember of what some processes remembered.

    As many processes get back each its own. Others get every count-th entry of all, and are filled up
    with entries of the others to what a process remembered before, or to their share of all where
    that is more: a history that was full is full again, and takes from a longer one what it holds.
    """
    if len(rank_states) == count:
        return rank_states[rank]
    return {name: _reshard([m[name] for m in rank_states], rank, count) for name in rank_states[0]}


def _reshard(parts: Sequence[Any], rank: int, count: int) -> Any:
    if isinstance(parts[0], Mapping) and all(part.keys() == parts[0].keys() for part in parts):
        return {key: _reshard([part[key] for part in parts], rank, count) for key in parts[0]}
    rows = [part for part in parts if isinstance(part, Tensor) and part.ndim]
    if not rows or any(part.shape[1:] != rows[0].shape[1:] for part in rows):
        return parts[rank % len(parts)]
    places = sorted((i, number) for number, part in enumerate(rows) for i in range(len(part)))
    own = list(range(rank, len(places), count))
    others = [place for place in range(len(places)) if place % count != rank]
    room = max(len(part) for part in rows) * max(1, -(-len(parts) // count))
    chosen = [
        places[place] for place in sorted([*own, *others][:room])
    ]  # the oldest first, as before
    return torch.stack([rows[number][i] for i, number in chosen]) if chosen else rows[0]


def check_ranks_agree(fingerprints: Sequence[str]) -> None:
    """Raise RunError where the processes do not have the same weights."""
    for rank, found in enumerate(fingerprints):
        if found != fingerprints[0]:
            raise RunError(
                f"process {rank} has other weights than the first: this is a defect, of the machine or "
                "the software; checkpoints are intact"
            )


def state_checksum(state: Mapping[str, Any]) -> str:
    """Return a short text that is the same for the same tensors, extra state left out."""
    sums = [bits.sum(dtype=torch.int64) for bits in _as_integers(state)]
    numbers = torch.stack([x.cpu() for x in sums]).tolist() if sums else []
    return hashlib.sha256(repr(numbers).encode()).hexdigest()[:16]


def _as_integers(state: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested containers as whole numbers."""
    if isinstance(state, Mapping):
        for name, value in state.items():
            if not str(name).endswith(EXTRA_STATE_SUFFIX):
                yield from _as_integers(value)
    elif isinstance(state, Tensor):
        exact = state.detach().contiguous()
        yield exact.view(INTEGER_TYPES[exact.itemsize]) if exact.is_floating_point() else exact
