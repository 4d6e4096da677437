"""Watch from a thread whether this process hangs, whatever it waits for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POLL_SECONDS = 1.0  # between two checks


@contextmanager
def exit_when(is_hung: Callable[[], bool], exit_process: Callable[[], None]) -> Iterator[None]:
    """Call `exit_process` from a thread once `is_hung`; a wait in a library has no other end."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            if is_hung():
                exit_process()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
