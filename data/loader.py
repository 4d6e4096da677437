"""The stream of batches, read by worker processes."""

import atexit
import signal
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.reading import BadImage


def batches(
    samples: Dataset,
    batch_size: int,
    first_step: int,
    last_step: int,
    workers: int,
    pin_memory: bool,
    part: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, Tensor]]:
    """Yield the uint8 batches of steps first_step .. last_step - 1, whatever the worker count.

    `part` (number, count) yields that part of every batch: processes share batches, not images.

    BadImage names a file that cannot be read. A worker's death is an error that may come at any
    moment in the process that iterates; `worker_died` recognises it.
    """
    steps = (list(positions(batch_size, step, part)) for step in range(first_step, last_step))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more workers than cores are the user's choice
        stream = iter(DataLoader(
            samples, batch_sampler=steps, num_workers=workers, collate_fn=_collate, pin_memory=pin_memory,
            worker_init_fn=_quiet_worker, prefetch_factor=4 if workers else None,
            generator=torch.Generator(),  # the loader draws from it; the run's stream stays untouched
        ))  # fmt: skip
    _streams.add(stream)
    for batch in stream:
        if isinstance(batch, BadImage):
            raise batch
        yield batch


_streams: "weakref.WeakSet[Any]" = weakref.WeakSet()


@atexit.register
def _end_readers() -> None:
    # Whoever ends on a traceback still holds its streams. Their readers, who survive one SIGTERM, would
    # be waited for without end by the interpreter, which sends one.
    for stream in list(_streams):
        if hasattr(stream, "_shutdown_workers"):
            stream._shutdown_workers()


def positions(batch_size: int, step: int, part: tuple[int, int] = (0, 1)) -> range:
    """Return the samples of a step's batch, or of the part (number, count) of it."""
    number, count = part
    share = batch_size // count
    first = step * batch_size + number * share
    return range(first, first + share)


def worker_died(error: Exception) -> bool:
    """Say whether an error means that a process reading images was killed."""
    broken = isinstance(error, ConnectionError | EOFError) and not isinstance(
        error, BrokenPipeError
    )
    return "DataLoader worker (pid" in str(error) or broken


def _collate(samples: list[dict[str, Tensor] | BadImage]) -> dict[str, Tensor] | BadImage:
    for sample in samples:
        if isinstance(sample, BadImage):
            return sample
    good: list[Any] = samples
    return {domain: torch.stack([sample[domain] for sample in good]) for domain in good[0]}


def _quiet_worker(_: int) -> None:
    # Ctrl-C reaches every process of a terminal; the training process saves and ends its workers.
    # So do torchrun's SIGTERM and a scheduler's SIGUSR1; a second SIGTERM stays: it is how a process
    # that is left behind is ended.
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    torch.set_num_threads(1)
