"""Load batches in worker processes, and end these processes with their parent."""

import atexit
import contextlib
import math
import multiprocessing.process
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.errors import UserError
from data.config import DataConfig
from data.reading import BadImage

SECONDS_TO_END, SECONDS_TO_DIE = 1.0, 1.0  # of workers, before and after they are killed
PREFETCHED = 4  # batches that a worker reads ahead
SHARED_MEMORY = "/dev/shm"  # where workers hand their batches over, on Linux


def batches(
    samples: Dataset,
    batch_size: int,
    first_step: int,
    last_step: int,
    workers: int,
    pin_memory: bool,
    part: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, Tensor]]:
    """Yield the batches of steps first_step .. last_step - 1, domain -> pixels [N, C, H, W].

    The batches do not depend on the number of workers. `part` (number, count) yields that part of
    every batch, for training on several devices.

    BadImage names a file that cannot be read. When a worker is killed, an error may occur at any
    moment in the process that iterates; `worker_died` recognizes it.
    """
    steps = (list(positions(batch_size, step, part)) for step in range(first_step, last_step))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user may choose more workers than cores
        stream = iter(DataLoader(
            samples, batch_sampler=steps, num_workers=workers, collate_fn=_collate,
            pin_memory=pin_memory,
            worker_init_fn=_initialize_worker, prefetch_factor=PREFETCHED if workers else None,
            generator=torch.Generator(),  # leaves the global generator of the run unchanged
        ))  # fmt: skip
    _open_streams.add(stream)
    try:
        for batch in stream:
            if isinstance(batch, BadImage):
                raise batch
            yield batch
    finally:
        _end_workers(stream)


def check_shared_memory(config: DataConfig, batch_size: int, processes: int = 1) -> None:
    """Raise UserError where the batches in flight do not fit into the shared memory that is free.

    Workers hand their batches over in /dev/shm; where it is full, they die or wait without a word.
    A container has 64 MB by default. `batch_size` is that of one process, `processes` their number
    on this machine. Without a /dev/shm nothing is checked.
    """
    if not config.workers or config.device_cache:
        return
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return
    pixel = sum(form.bytes_per_pixel for form in config.formats().values())
    batch = batch_size * config.crop_size**2 * pixel
    needed = processes * batch * (config.workers * PREFETCHED + 1)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        fitting = max((free // (processes * batch) - 1) // PREFETCHED, 0)
        raise UserError(
            f"data.workers={config.workers}: their batches need {needed / 1e6:.0f} MB of shared "
            f"memory, but {SHARED_MEMORY} has {free / 1e6:.0f} MB free; set data.workers={fitting}, "
            f"or start the container with --shm-size={math.ceil(1.2 * needed / 1e9)}g",
            option="data.workers", path=SHARED_MEMORY,
        )  # fmt: skip


_open_streams: "weakref.WeakSet[Any]" = weakref.WeakSet()


@atexit.register
def _shut_down_workers() -> None:
    # After an uncaught exception the streams are still open. The interpreter sends their workers
    # one SIGTERM, which they ignore (see _initialize_worker), and would wait for them forever.
    for stream in list(_open_streams):
        _end_workers(stream)


def _end_workers(stream: Any) -> None:
    """End the workers of a stream, by force if they do not end; this takes a few seconds at most.

    A worker may be stopped, or wait for a network drive that does not answer. In such a wait not
    even a kill ends it, so it is left behind, and the interpreter must not wait for it either.
    """
    _open_streams.discard(stream)
    workers = list(getattr(stream, "_workers", ()))
    if not workers or getattr(stream, "_shutdown", True) or sys.is_finalizing():
        return
    torch._C._remove_worker_pids(id(stream))  # from here on, their death is not an error
    stream._worker_pids_set = False
    closing = threading.Thread(target=stream._shutdown_workers, daemon=True)
    closing.start()
    closing.join(SECONDS_TO_END)
    if closing.is_alive():
        for worker in workers:
            with contextlib.suppress(OSError):
                os.kill(worker.pid, signal.SIGKILL)
        closing.join(SECONDS_TO_DIE)
    if closing.is_alive():
        multiprocessing.process._children.difference_update(workers)  # pyright: ignore[reportAttributeAccessIssue]


def positions(batch_size: int, step: int, part: tuple[int, int] = (0, 1)) -> range:
    """Return the sample positions of the batch of a step, or of its part (number, count)."""
    number, count = part
    part_size = batch_size // count
    first = step * batch_size + number * part_size
    return range(first, first + part_size)


def worker_died(error: Exception) -> bool:
    """Return whether an error means that a worker process was killed."""
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


def _initialize_worker(_: int) -> None:
    # Ctrl-C, SIGTERM from torchrun and SIGUSR1 from a scheduler reach every process, but only the
    # training process may react: it saves a checkpoint and ends its workers. A second SIGTERM ends
    # a worker that was left behind.
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    torch.set_num_threads(1)
