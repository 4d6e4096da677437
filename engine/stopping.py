"""Ctrl-C, SIGTERM and SIGUSR1: asked once, a run saves itself and leaves; asked twice, it leaves at once."""

import os
import signal
from types import FrameType
from typing import Self


class StopSignals:
    """While entered, remember the first signal in `requested` instead of dying of it."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.requested: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._remember) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, _: FrameType | None) -> None:
        if self.requested is not None:
            os._exit(128 + number)
        self.requested = number
