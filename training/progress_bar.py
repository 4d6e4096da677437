"""Show the progress of training: a bar on a terminal, plain lines elsewhere."""

import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import TextIO

from common.progress import clock
from common.terminal import printable, raw_stream

STARVED_SHARE = 0.2  # of the time of steps, spent waiting for images


class ProgressBar:
    """Show the progress of a run, its speed, the time left and its losses.

    On a terminal, two lines are redrawn about five times a second; elsewhere `log` prints one line.
    The speed is that of the last 30 steps, without the time spent on previews and checkpoints.
    """

    def __init__(
        self, name: str, total: int, done: int, batch_size: int, stream: TextIO | None = None
    ) -> None:
        self.name = printable(name)
        self.total = total
        self.done = done
        self.batch_size = batch_size
        self.stream: TextIO = raw_stream(stream or sys.stdout)
        self.live = self.stream.isatty()
        self.durations: deque[float] = deque(maxlen=30)
        self.waits: deque[float] = deque(maxlen=30)
        self._warned = False
        self.losses: dict[str, float] = {}
        self.learning_rate = 0.0
        self._drawn_at = 0.0
        self._lines = 0

    def step(self, step: int, seconds: float, waited: float = 0.0) -> None:
        """Record a finished step that took `seconds`, `waited` of them for its images."""
        self.done = step
        self.durations.append(seconds)
        self.waits.append(waited)
        if self.live and time.monotonic() - self._drawn_at > 0.2:
            self._draw()

    def log(self, losses: Mapping[str, float], learning_rate: float) -> None:
        """Set the losses to show, without gradient norms; if not on a terminal, print a line."""
        self.losses = {name: value for name, value in losses.items() if "/" not in name}
        self.learning_rate = learning_rate
        if self.live:
            self._draw()
        else:
            terms = "  ".join(f"{name} {value:.4g}" for name, value in self.losses.items())
            self._write(
                f"step {self.done}/{self.total}  {self.images_per_second():.3g} images/s  "
                f"left {clock(self.seconds_left())}  lr {learning_rate:.3g}  {terms}\n"
            )

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._write(self._erase_codes() + printable(text) + "\n")

    def close(self) -> None:
        """Draw the last state, which stays on the screen."""
        if self.live:
            self._draw()

    def images_per_second(self) -> float:
        """Return the speed of the last steps."""
        return self.batch_size * len(self.durations) / max(sum(self.durations), 1e-9)

    def waiting_share(self) -> float:
        """Return the share of the last steps' time that was spent waiting for images, 0 to 1."""
        return sum(self.waits) / max(sum(self.durations), 1e-9)

    def milliseconds(self) -> dict[str, float]:
        """Return log name -> milliseconds: the last steps' mean time, and its part for images."""
        count = max(len(self.durations), 1)
        return {
            "time/step_ms": 1000 * sum(self.durations) / count,
            "time/data_ms": 1000 * sum(self.waits) / count,
        }

    def should_warn_of_starvation(self) -> bool:
        """Return True once, when 30 steps have spent a fifth of their time waiting for images."""
        full = len(self.waits) == self.waits.maxlen
        if self._warned or not full or self.waiting_share() < STARVED_SHARE:
            return False
        self._warned = True
        return True

    def seconds_left(self) -> float:
        """Return the time to the end at the current speed."""
        return (self.total - self.done) * self.batch_size / max(self.images_per_second(), 1e-9)

    def _draw(self) -> None:
        width = shutil.get_terminal_size((100, 24)).columns - 1
        share = self.done / max(self.total, 1)
        right = (
            f" {share:4.0%}  {self.done:,}/{self.total:,}  {self.images_per_second():.3g} images/s"
            f"  {clock(self.seconds_left())} left"
        )
        cells = max(8, min(40, width - len(self.name) - len(right) - 2))
        filled = int(share * cells)
        bar = "━" * filled + "─" * (cells - filled)
        terms = [f"lr {self.learning_rate:.2g}"]
        terms += [f"{name} {value:.3f}" for name, value in self.losses.items()]
        line = ""
        for term in terms:
            if len(line) + len(term) + 2 > width:
                break
            line += ("  " if line else "") + term
        first = f"{self.name} \x1b[36m{bar}\x1b[0m{right}"[: width + 9]
        self._write(f"{self._erase_codes()}{first}\n\x1b[2m{line}\x1b[0m\n")
        self._lines, self._drawn_at = 2, time.monotonic()

    def _erase_codes(self) -> str:
        lines, self._lines = self._lines, 0
        return f"\x1b[{lines}A\x1b[J" if lines else ""

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:  # the reader closed the pipe; metrics.jsonl has everything
            self.stream, self.live = open(os.devnull, "w"), False  # noqa: SIM115 (never closed)
