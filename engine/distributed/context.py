"""The processes that train one run together: how they meet, agree, and end."""

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from common.command import answer
from common.errors import Ended, Interrupted, RunError, UserError, one_line
from engine.distributed.hang_detector import watching
from engine.distributed.rendezvous import name_of_start
from engine.hardware.device import RuntimeConfig, choose_device

GRACE = 5.0  # seconds that a process which hangs waits longer than those that notice it
Result = TypeVar("Result")


class Processes:
    """The processes that train one run together, as torchrun started them; mostly there is but one.

    All make the same calls in the same order. Where one has ended or hangs, the others leave with exit
    code 1, and one of them says so. Entered, all but the first are silent.
    """

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0, beside: int = 0) -> None:
        """Take our number among `count` processes, and among those `beside` us on this machine."""
        self.rank = rank
        self.count = count
        self.local = local
        self.beside = beside or count
        self.timeout = 0.0
        self._store: Any = None
        self._starting = False
        self._voice = sys.stderr
        self._silence = contextlib.ExitStack()
        self._questions = 0
        self._heard = 0.0
        self._meetings = 0

    @classmethod
    def of_environment(cls) -> Self:
        """Return who torchrun's variables say we are; without them we are alone."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        if not all(name in os.environ for name in names):
            return cls()
        try:
            rank, count, local = (int(os.environ[name]) for name in names[:3])
            beside = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
        except ValueError:
            raise UserError(
                f"{', '.join(names[:3])} are set and are no numbers; start with torchrun, or unset them"
            ) from None
        return cls(rank, count, local, beside)

    @property
    def first(self) -> bool:
        """Say whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Say whether there is nobody to talk to."""
        return self.count == 1

    def __enter__(self) -> Self:
        self._voice = sys.stderr
        if not self.first:
            nowhere = self._silence.enter_context(open(os.devnull, "w"))
            self._silence.enter_context(contextlib.redirect_stdout(nowhere))
            self._silence.enter_context(contextlib.redirect_stderr(nowhere))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._silence.close()
        if self.alone:
            return
        agreed = isinstance(error, Interrupted) or getattr(error, "exit_code", None) == 3
        if error is None or agreed:  # all are here, and wait until the first has written everything
            if dist.is_initialized():
                with self._answered():
                    dist.barrier()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, when one has left
                dist.destroy_process_group()
            if error is not None and not self.first:
                raise Ended(error.exit_code)  # pyright: ignore[reportAttributeAccessIssue]
            return
        self._leave(error)

    def start(self, config: RuntimeConfig) -> None:
        """Meet the others, with the library that suits the device; UserError where a device is missing."""
        if self.alone:
            return
        self._starting = True
        try:
            store = next(rendezvous("env://"))[0]
        except (RuntimeError, ValueError, OSError) as error:
            raise RunError(
                f"the processes cannot reach each other ({one_line(error, 120)})"
            ) from None
        name = name_of_start(store, self.rank, self.count, config.timeout)
        self._store = PrefixStore(name, store)
        device = choose_device(config.device, self.local, self.count)
        cuda = device.type == "cuda"
        if cuda:
            torch.cuda.set_device(device)
        self.timeout = config.timeout
        # What CUDA waits for cannot be interrupted: there the watch below ends the process.
        limit = timedelta(seconds=config.timeout + (2 * GRACE if cuda else 0))
        with self._answered():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if cuda else "gloo", store=self._store,
                rank=self.rank, world_size=self.count, timeout=limit,
            )  # fmt: skip

    def told(self, find: Callable[[], Result], patiently: bool = False) -> Result:
        """Return what `find` finds in the first process; `patiently` waits however long that takes."""
        if self.alone:
            return find()
        box: list[Any] = [find() if self.first else None]
        if patiently:
            self._questions += 1
            name = f"answer {self._questions}"
            if self.first:
                self._store.set(name, b"")
            while not self._store.check([name]):
                time.sleep(0.05)
        with self._answered():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def handed(self, parts: Sequence[Result]) -> Result:
        """Return part number `rank` of the first process's `parts`."""
        if self.alone:
            return parts[0]
        box: list[Any] = [None]
        with self._answered():
            dist.scatter_object_list(box, list(parts) if self.first else None, src=0)
        return box[0]

    def gathered(self, value: Result) -> list[Result]:
        """Return everybody's value, in the order of ranks, to the first process; to others nothing."""
        if self.alone:
            return [value]
        box: list[Any] | None = [None] * self.count if self.first else None
        with self._answered():
            dist.gather_object(value, box, dst=0)
        return box or []

    def largest(self, number: int) -> int:
        """Return the largest of everybody's numbers."""
        if self.alone:
            return number
        numbers = torch.tensor([number])
        with self._answered():
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers)

    def average(self, values: Tensor) -> Tensor:
        """Return the mean of everybody's tensor; what is no number anywhere is none everywhere."""
        if self.alone:
            return values
        mean = values / self.count
        self.finish(self.begin_sum(mean))
        return mean

    def begin_sum(self, flat: Tensor) -> Any:
        """Begin to add up everybody's tensor in place; `finish` waits for the sum."""
        with self._answered():
            return dist.all_reduce(flat, async_op=True)

    def finish(self, work: Any) -> None:
        """Wait for a sum: on CUDA the stream does, not the host."""
        with self._answered():
            work.wait()

    def meet(self) -> None:
        """Wait until all are here, however long it takes."""
        if self.alone:
            return
        self._meetings += 1
        place = f"here {self._meetings}"
        self._store.add(place, 1)
        while self._store.add(place, 0) < self.count:
            time.sleep(0.05)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """End this process where it does not talk to the others for longer than they would wait."""
        if self.alone:
            yield
            return
        self._heard = time.monotonic()

        def late() -> bool:
            return time.monotonic() - self._heard > self.timeout + GRACE

        def leave() -> None:
            self._last_words(self._too_long())
            os._exit(1)

        with watching(late, leave):
            yield

    def lost(self, error: Exception) -> bool:
        """Say whether an error means that another process is gone."""
        text = str(error).lower()
        named = isinstance(error, dist.DistError) or "gloo" in text or "nccl" in text
        return not self.alone and named

    def leave(self, error: Exception) -> Ended:
        """Say, if nobody did, that another process is gone; return what to raise."""
        late = "imed out" in str(error) or "imeout" in str(error)
        self._last_words(
            self._too_long() if late else
            "another process of this run has ended; checkpoints are intact, the same command continues"
        )  # fmt: skip
        return Ended(1)

    def _too_long(self) -> str:
        return (
            f"a process hangs: nothing was heard of it for {self.timeout:g} s (runtime.timeout); "
            "checkpoints are intact, the same command continues"
        )

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Turn what a library says of a lost process into one line."""
        try:
            yield
        except (RuntimeError, ConnectionError) as error:
            if "DataLoader worker" in str(error):  # it is raised at any moment
                raise
            raise self.leave(error) from None
        self._heard = time.monotonic()

    def _last_words(self, text: str) -> None:
        """Print why the run ends, if no other process did."""
        if self._speaks_first():
            print(f"error: {one_line(RuntimeError(text))}", file=self._voice, flush=True)

    def _speaks_first(self) -> bool:
        if self._store is None:  # before they meet all know the same; then each what stops it
            return self.first or self._starting
        try:
            return self._store.add("spoken", 1) == 1
        except RuntimeError:  # the store went with torchrun
            return True

    def _leave(self, error: BaseException) -> None:
        """End the process at once: the others are elsewhere, and the libraries would wait for them."""
        code = getattr(error, "exit_code", 1)
        if isinstance(error, UserError | RunError):
            code = answer(error, aloud=self._speaks_first())
        elif not isinstance(error, Ended | KeyboardInterrupt | SystemExit):
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if not isinstance(error, KeyboardInterrupt) else 130)
