"""See signals as soon as they arrive, also while the main thread waits in a library."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SECONDS_TO_END = 4.0  # after Ctrl-C, until a process whose waits do not end is ended


def _watch_nothing() -> None:
    """Keep a forked process from writing its signals into the socket of its parent."""
    with suppress(ValueError):  # a fork from another thread: it has no such socket
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_watch_nothing)


@contextmanager
def watch_signals(arrived: Callable[[int], None]) -> Iterator[None]:
    """Call `arrived(number)` from a thread for every signal that Python handles.

    Python runs a signal handler only when the main thread is back from a library, which may wait
    for a disk, a device or another process without end. The inner of two nested watches sees the
    signals. Outside of the main thread nothing is watched.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiving, sending = socket.socketpair()
    sending.setblocking(False)

    def read() -> None:
        with receiving:
            while data := receiving.recv(64):
                for number in data:
                    arrived(number)

    threading.Thread(target=read, daemon=True, name="signals").start()
    outer = signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(outer, warn_on_full_buffer=False)
        sending.close()  # ends the thread


@contextmanager
def end_after_interrupt() -> Iterator[None]:
    """End the process with code 130 if it has not ended `SECONDS_TO_END` after Ctrl-C."""
    code = 128 + signal.SIGINT

    def arrived(number: int) -> None:
        if number == signal.SIGINT:
            timer = threading.Timer(SECONDS_TO_END, end)
            timer.daemon = True
            timer.start()

    def end() -> None:
        os.write(2, b"interrupted\n")
        os._exit(code)

    with watch_signals(arrived):
        yield
