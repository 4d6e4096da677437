"""Handle SIGINT, SIGTERM and SIGUSR1: the first asks a run to save and stop, the second exits."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Self

from common.signals import watch_signals


class StopRequested(BaseException):
    """A signal asked a run to stop while it waited; not an error that a library could catch."""


class StopSignals:
    """While entered, store the first signal in `requested`; a second one exits at once.

    A second signal also ends a process that waits in a library, such as for a device.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, echo: float = 0.0) -> None:
        """Ignore signals within `echo` seconds of the first, which torchrun and `timeout` repeat."""
        self.requested: int | None = None
        self.echo = echo
        self._handled_at = self._arrived_at = 0.0  # when the first signal did; 0: not yet
        self._patience: float | None = None  # seconds that the current wait may last after a signal
        self._old_handlers: dict[int, Any] = {}  # None: a handler that Python did not install
        self._watch = ExitStack()
        self._process = os.getpid()

    def __enter__(self) -> Self:
        self._watch.enter_context(watch_signals(self._arrived))
        self._old_handlers = {n: signal.signal(n, self._handle) for n in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._watch.close()

    @contextmanager
    def end_wait(self, seconds: float) -> Iterator[None]:
        """Raise StopRequested in a wait that lasts `seconds` longer than a signal's arrival."""
        self._patience = seconds
        try:
            if self.requested is not None:
                self._end_wait_later()
            yield
        finally:
            self._patience = None
            if seconds:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def _end_wait_later(self) -> None:
        if not self._patience:
            raise StopRequested
        signal.signal(signal.SIGALRM, self._alarm)
        signal.setitimer(signal.ITIMER_REAL, self._patience)

    def _alarm(self, _: int, __: FrameType | None) -> None:
        if self._patience is not None:
            raise StopRequested

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked process that has not set its own handlers yet
        now = time.monotonic()
        if self.requested is None:
            self.requested, self._handled_at = number, now
            if self._patience is not None:
                self._end_wait_later()
        elif now - self._handled_at >= self.echo:
            os._exit(128 + number)

    def _arrived(self, number: int) -> None:
        """Exit at the second signal, in a thread: the main thread may wait in a library."""
        if number not in self.SIGNALS:
            return
        now = time.monotonic()
        if not self._arrived_at:
            self._arrived_at = now
        elif now - self._arrived_at >= self.echo:
            os._exit(128 + number)
