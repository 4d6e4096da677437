"""Map a function over files in subprocesses, which a file may crash or hang."""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

from common.errors import RunError
from common.free_memory import free_ram

Result = TypeVar("Result")
SECONDS_TO_DIE = 1.0  # a killed process that waits for a disk ends only when the disk answers
MIN_ADDRESS_SPACE = 4 * 2**30  # bytes that a process may take; 89 megapixels need 2.5 GiB


@dataclass(frozen=True)
class WorkerFailure:
    """The result for a file whose process ended or stalled: the reason in a few words."""

    reason: str


@dataclass
class _Worker(Generic[Result]):
    process: BaseProcess
    connection: Connection
    number: int = -1  # of the file it is reading
    deadline: float = 0.0
    has_started: bool = False


def map_in_subprocesses(
    function: Callable[[Path], Result], files: Sequence[Path], workers: int, seconds: float
) -> Iterator[tuple[int, Result | WorkerFailure]]:
    """Yield (number of the file, result of `function`), in the order of completion.

    A process that dies or takes longer than `seconds` for a file is replaced, and the result for
    the file is a WorkerFailure. `function` must be importable by name. All processes end with the
    iterator. RunError if a process cannot be started.
    """
    pending = iter(range(len(files)))
    active: list[_Worker[Result]] = []
    try:
        for number in pending:
            active.append(_assign(_start_worker(function), number, files, seconds))
            if len(active) >= workers:
                break
        while active:
            earliest = min(worker.deadline for worker in active)
            ready = wait([w.connection for w in active], max(0.0, earliest - time.monotonic()))
            for worker in list(active):
                is_late = time.monotonic() > worker.deadline
                if worker.connection not in ready and not is_late:
                    continue
                if not worker.has_started:
                    _await_start(worker, seconds)
                    continue
                result = _result(worker, is_late and worker.connection not in ready, seconds)
                yield worker.number, result
                active.remove(worker)
                following = next(pending, None)
                if following is None:
                    _stop(worker)
                    continue
                free = _start_worker(function) if isinstance(result, WorkerFailure) else worker
                active.append(_assign(free, following, files, seconds))
    finally:
        for worker in active:
            _stop(worker)


def _await_start(worker: _Worker[Result], seconds: float) -> None:
    """Receive the first message of a new process; its start does not count as time for its file."""
    try:
        worker.has_started = worker.connection.poll(seconds) and worker.connection.recv()
    except (EOFError, OSError):
        worker.has_started = False
    if not worker.has_started:
        raise RunError(
            "a process that reads images does not start; workers=1 needs the least memory"
        )
    worker.deadline = time.monotonic() + seconds


def _result(worker: _Worker[Result], is_late: bool, seconds: float) -> Result | WorkerFailure:
    if is_late:
        _stop(worker)
        return WorkerFailure(f"not read within {seconds:.0f} seconds")
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join(5)
        code = worker.process.exitcode or 0
        _stop(worker)
        return WorkerFailure(f"the process that read it ended ({_exit_reason(code)})")


def _exit_reason(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _start_worker(function: Callable[[Path], Result]) -> _Worker[Result]:
    # Spawned, not forked: the parent may have threads, and a fork would hold on to its memory.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _assign(
    worker: _Worker[Result], number: int, files: Sequence[Path], seconds: float
) -> _Worker[Result]:
    """Send a file to a worker and set its deadline."""
    worker.number, worker.deadline = number, time.monotonic() + seconds
    with suppress(OSError):  # if it has died, receiving its result fails and reports that
        worker.connection.send(files[number])
    return worker


def _stop(worker: _Worker[Result]) -> None:
    worker.process.kill()
    worker.process.join(SECONDS_TO_DIE)
    worker.connection.close()


def _serve(connection: Connection, function: Callable[[Path], object]) -> None:
    """Apply `function` to every received file until the connection closes, in the subprocess."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    if sys.platform == "linux":  # other systems do not enforce the limit
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        unlimited = hard == resource.RLIM_INFINITY
        wanted = max(MIN_ADDRESS_SPACE, free_ram() // 2)
        limit = wanted if unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    connection.send(True)
    while True:
        try:
            file = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(function(file))
