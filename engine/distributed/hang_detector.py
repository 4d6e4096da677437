"""A thread that looks now and then whether this process should leave, whatever it waits for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POLL_SECONDS = 1.0  # seconds between two looks


@contextmanager
def exit_when(is_late: Callable[[], bool], leave: Callable[[], None]) -> Iterator[None]:
    """Call `leave` from a thread once `is_late`; what waits in a library hears of nothing else."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            if is_late():
                leave()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
