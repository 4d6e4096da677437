"""Ctrl-C, SIGTERM and SIGUSR1: asked once, a run saves itself and leaves; asked twice, it leaves at once."""

import os
import signal
import time
from types import FrameType
from typing import Any, Self


class StopSignals:
    """While entered, remember the first signal in `requested` instead of dying of it."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, echo: float = 0.0) -> None:
        """Take as one what comes within `echo` seconds: torchrun repeats what reached us already."""
        self.requested: int | None = None
        self.echo = echo
        self._since = 0.0
        self._before: dict[int, Any] = {}  # handlers, or none that Python knows

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._remember) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if self.requested is None:
            self.requested, self._since = number, time.monotonic()
        elif time.monotonic() - self._since >= self.echo:
            os._exit(128 + number)
