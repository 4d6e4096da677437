"""Show the progress of a long task on one line of the terminal."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from common.terminal import printable, raw_stream

Item = TypeVar("Item")


def clock(seconds: float) -> str:
    """Return a duration in seconds as minutes and seconds, 4:05, or with hours, 2:03:04."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def with_progress(
    items: Iterable[Item], total: int, label: str, stream: TextIO | None = None
) -> Iterator[Item]:
    """Yield the items; on a terminal, show how many of `total` are done, then erase the line."""
    screen = raw_stream(stream or sys.stderr)
    on_terminal, started, label = screen.isatty(), time.monotonic(), printable(label)
    for number, item in enumerate(items):
        if on_terminal:
            left = (time.monotonic() - started) / max(number, 1) * (total - number)
            filled = int(number / max(total, 1) * 30)
            bar = "\x1b[36m" + "━" * filled + "─" * (30 - filled) + "\x1b[0m"
            screen.write(f"\r\x1b[K{label} {bar} {number}/{total}  {clock(left)} left")
            screen.flush()
        yield item
    if on_terminal:
        screen.write("\r\x1b[K")
        screen.flush()


def print_beside_bar(line: str) -> None:
    """Print a line on standard error; where a terminal shows a bar, in its place."""
    erase = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{erase}{printable(line)}", file=raw_stream(sys.stderr), flush=True)


@contextmanager
def fraction_bar(label: str, stream: TextIO | None = None) -> Iterator[Callable[[float], None]]:
    """Yield a function that shows the finished fraction of a task, 0 to 1, on a terminal."""
    screen = raw_stream(stream or sys.stderr)
    on_terminal, started, label = screen.isatty(), time.monotonic(), printable(label)
    percent = -1

    def report(fraction: float) -> None:
        nonlocal percent
        if on_terminal and int(fraction * 100) != percent:
            percent = int(fraction * 100)
            left = (time.monotonic() - started) * (1 - fraction) / max(fraction, 1e-3)
            screen.write(f"\r\x1b[K{label} {percent} %  {clock(left)} left")
            screen.flush()

    try:
        yield report
    finally:
        if percent >= 0:
            screen.write("\r\x1b[K")
            screen.flush()
