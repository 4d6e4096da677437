"""Progress of a long piece of work on one line of the terminal."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

Item = TypeVar("Item")


def clock(seconds: float) -> str:
    """Return a duration as 4:05 or 2:03:04."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def with_progress(
    items: Iterable[Item], total: int, label: str, stream: TextIO | None = None
) -> Iterator[Item]:
    """Yield the items; on a terminal, show how many of `total` are done on a line that goes away."""
    screen = stream or sys.stderr
    live, started = screen.isatty(), time.monotonic()
    for number, item in enumerate(items):
        if live:
            left = (time.monotonic() - started) / max(number, 1) * (total - number)
            filled = int(number / max(total, 1) * 30)
            bar = "\x1b[36m" + "━" * filled + "─" * (30 - filled) + "\x1b[0m"
            screen.write(f"\r\x1b[K{label} {bar} {number}/{total}  {clock(left)} left")
            screen.flush()
        yield item
    if live:
        screen.write("\r\x1b[K")
        screen.flush()


@contextmanager
def fraction_bar(label: str, stream: TextIO | None = None) -> Iterator[Callable[[float], None]]:
    """Give a function that is told the share of a long piece of work, 0 to 1, and shows it on a terminal."""
    screen = stream or sys.stderr
    live, started = screen.isatty(), time.monotonic()
    shown = -1

    def report(share: float) -> None:
        nonlocal shown
        if live and int(share * 100) != shown:
            shown = int(share * 100)
            left = (time.monotonic() - started) * (1 - share) / max(share, 1e-3)
            screen.write(f"\r\x1b[K{label} {shown} %  {clock(left)} left")
            screen.flush()

    try:
        yield report
    finally:
        if shown >= 0:
            screen.write("\r\x1b[K")
            screen.flush()
