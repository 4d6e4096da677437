"""Run a function over files in processes of their own: one that crashes or hangs costs one file."""

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

Result = TypeVar("Result")
MEMORY = 4 * 2**30  # bytes of addresses a process may have; 89 megapixels in 16 bits need 2.5 GiB


@dataclass(frozen=True)
class WorkerFailure:
    """A file whose process ended before it answered, and why in a few words."""

    reason: str


@dataclass
class _Worker(Generic[Result]):
    process: BaseProcess
    connection: Connection
    number: int = -1  # of the file it is reading
    until: float = 0.0
    ready: bool = False  # whether it has come to life


def map_in_subprocesses(
    function: Callable[[Path], Result], files: Sequence[Path], workers: int, seconds: float
) -> Iterator[tuple[int, Result | WorkerFailure]]:
    """Yield (number of the file, what `function` made of it), in the order of completion.

    A process that dies or takes longer than `seconds` for a file is replaced, and the file is Lost.
    `function` is importable by name. No process outlives the iterator. RunError where none comes to life.
    """
    todo = iter(range(len(files)))
    team: list[_Worker[Result]] = []
    try:
        for number in todo:
            team.append(_hand(_started(function), number, files, seconds))
            if len(team) >= workers:
                break
        while team:
            soonest = min(worker.until for worker in team)
            ready = wait([w.connection for w in team], max(0.0, soonest - time.monotonic()))
            for worker in list(team):
                late = time.monotonic() > worker.until
                if worker.connection not in ready and not late:
                    continue
                if not worker.ready:
                    _greet(worker, seconds)
                    continue
                answer = _answer(worker, late and worker.connection not in ready, seconds)
                yield worker.number, answer
                team.remove(worker)
                following = next(todo, None)
                if following is None:
                    _end(worker)
                    continue
                next_one = _started(function) if isinstance(answer, WorkerFailure) else worker
                team.append(_hand(next_one, following, files, seconds))
    finally:
        for worker in team:
            _end(worker)


def _greet(worker: _Worker[Result], seconds: float) -> None:
    """Take a new process's first word; its start is not counted as time for its file."""
    try:
        worker.ready = worker.connection.poll(seconds) and worker.connection.recv()
    except (EOFError, OSError):
        worker.ready = False
    if not worker.ready:
        raise RunError(
            "a process that reads images does not start; workers=1 needs the least memory"
        )
    worker.until = time.monotonic() + seconds


def _answer(worker: _Worker[Result], late: bool, seconds: float) -> Result | WorkerFailure:
    if late:
        _end(worker)
        return WorkerFailure(f"not read within {seconds:.0f} seconds")
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join(5)
        code = worker.process.exitcode or 0
        _end(worker)
        return WorkerFailure(f"ended the process that read it ({_name_of(code)})")


def _name_of(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _started(function: Callable[[Path], Result]) -> _Worker[Result]:
    # Spawned rather than forked: the caller may have threads, and a fork would keep its memory.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _hand(
    worker: _Worker[Result], number: int, files: Sequence[Path], seconds: float
) -> _Worker[Result]:
    worker.number, worker.until = number, time.monotonic() + seconds
    with suppress(OSError):  # it died meanwhile: the answer that does not come says so
        worker.connection.send(files[number])
    return worker


def _end(worker: _Worker[Result]) -> None:
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _serve(connection: Connection, function: Callable[[Path], object]) -> None:
    """Answer files until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    if sys.platform == "linux":  # elsewhere the limit is not kept
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    connection.send(True)
    while True:
        try:
            file = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(function(file))
