"""Call a library in a thread, so that a call that never returns stops nothing else."""

import queue
import threading
from collections.abc import Callable

MAX_PENDING = 1000  # calls that may wait for one that does not return


class BackgroundCalls:
    """Functions that a thread calls one after the other, in the order of `call`."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue(MAX_PENDING)
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], object]) -> bool:
        """Have `function` called, which must not raise; return False if too many calls wait."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="W&B calls")
            self._thread.start()
        try:
            self._queue.put_nowait(function)
        except queue.Full:
            return False
        return True

    def close(self, seconds: float) -> bool:
        """End after the pending calls; return whether they were done within `seconds`."""
        if self._thread is None:
            return True
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return False
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (function := self._queue.get()) is not None:
            function()
