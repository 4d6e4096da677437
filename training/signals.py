"""Handle SIGINT, SIGTERM and SIGUSR1: the first asks a run to save and stop, the second exits."""

import os
import signal
import time
from types import FrameType
from typing import Any, Self


class StopSignals:
    """While entered, store the first signal in `requested`; a second one exits at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, echo: float = 0.0) -> None:
        """Ignore signals within `echo` seconds of the first: torchrun repeats those it receives."""
        self.requested: int | None = None
        self.echo = echo
        self._requested_at = 0.0
        self._old_handlers: dict[int, Any] = {}  # None: a handler that Python did not install

    def __enter__(self) -> Self:
        self._old_handlers = {n: signal.signal(n, self._handle) for n in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested is None:
            self.requested, self._requested_at = number, time.monotonic()
        elif time.monotonic() - self._requested_at >= self.echo:
            os._exit(128 + number)
