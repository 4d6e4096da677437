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

from common.command import print_error
from common.errors import Interrupted, PeerExit, RunError, UserError, one_line
from engine.distributed.hang_detector import exit_when
from engine.distributed.rendezvous import agree_on_store_prefix
from engine.hardware.device import RuntimeConfig, choose_device

GRACE = 5.0  # seconds that a process which hangs waits longer than those that notice it
Result = TypeVar("Result")


class DistributedContext:
    """The processes that train one run together, as torchrun started them; mostly there is but one.

    All make the same calls in the same order. Where one has ended or hangs, the others leave with exit
    code 1, and one of them says so. Entered, all but the first are silent.
    """

    def __init__(
        self, rank: int = 0, world_size: int = 1, local_rank: int = 0, local_world_size: int = 0
    ) -> None:
        """Take our number among `count` processes, and among those `beside` us on this machine."""
        self.rank = rank
        self.world_size = world_size
        self.local_rank = local_rank
        self.local_world_size = local_world_size or world_size
        self.timeout = 0.0
        self._store: Any = None
        self._starting = False
        self._stderr = sys.stderr
        self._redirects = contextlib.ExitStack()
        self._broadcast_count = 0
        self._last_contact = 0.0
        self._barrier_count = 0

    @classmethod
    def from_env(cls) -> Self:
        """Return who torchrun's variables say we are; without them we are alone."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        if not all(name in os.environ for name in names):
            return cls()
        try:
            rank, world_size, local_rank = (int(os.environ[name]) for name in names[:3])
            local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
        except ValueError:
            raise UserError(
                f"{', '.join(names[:3])} are set and are no numbers; start with torchrun, or unset them"
            ) from None
        return cls(rank, world_size, local_rank, local_world_size)

    @property
    def is_main_process(self) -> bool:
        """Say whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Say whether there is nobody to talk to."""
        return self.world_size > 1

    def __enter__(self) -> Self:
        self._stderr = sys.stderr
        if not self.is_main_process:
            nowhere = self._redirects.enter_context(open(os.devnull, "w"))
            self._redirects.enter_context(contextlib.redirect_stdout(nowhere))
            self._redirects.enter_context(contextlib.redirect_stderr(nowhere))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._redirects.close()
        if not self.is_distributed:
            return
        agreed = isinstance(error, Interrupted) or getattr(error, "exit_code", None) == 3
        if error is None or agreed:  # all are here, and wait until the first has written everything
            if dist.is_initialized():
                with self._peer_failure_as_exit():
                    dist.barrier()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, when one has left
                dist.destroy_process_group()
            if error is not None and not self.is_main_process:
                raise PeerExit(error.exit_code)  # pyright: ignore[reportAttributeAccessIssue]
            return
        self._exit_now(error)

    def init_process_group(self, config: RuntimeConfig) -> None:
        """Meet the others, with the library that suits the device; UserError where a device is missing."""
        if not self.is_distributed:
            return
        self._starting = True
        try:
            store = next(rendezvous("env://"))[0]
        except (RuntimeError, ValueError, OSError) as error:
            raise RunError(
                f"the processes cannot reach each other ({one_line(error, 120)})"
            ) from None
        name = agree_on_store_prefix(store, self.rank, self.world_size, config.timeout)
        self._store = PrefixStore(name, store)
        device = choose_device(config.device, self.local_rank, self.world_size)
        cuda = device.type == "cuda"
        if cuda:
            torch.cuda.set_device(device)
        self.timeout = config.timeout
        # What CUDA waits for cannot be interrupted: there the watch below ends the process.
        limit = timedelta(seconds=config.timeout + (2 * GRACE if cuda else 0))
        with self._peer_failure_as_exit():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if cuda else "gloo", store=self._store,
                rank=self.rank, world_size=self.world_size, timeout=limit,
            )  # fmt: skip

    def call_on_main(self, find: Callable[[], Result], wait_forever: bool = False) -> Result:
        """Return what `find` finds in the first process; `wait_forever` waits however long that takes."""
        if not self.is_distributed:
            return find()
        box: list[Any] = [find() if self.is_main_process else None]
        if wait_forever:
            self._broadcast_count += 1
            name = f"answer {self._broadcast_count}"
            if self.is_main_process:
                self._store.set(name, b"")
            while not self._store.check([name]):
                time.sleep(0.05)
        with self._peer_failure_as_exit():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def scatter_object(self, parts: Sequence[Result]) -> Result:
        """Return part number `rank` of the first process's `parts`."""
        if not self.is_distributed:
            return parts[0]
        box: list[Any] = [None]
        with self._peer_failure_as_exit():
            dist.scatter_object_list(box, list(parts) if self.is_main_process else None, src=0)
        return box[0]

    def gather_object(self, value: Result) -> list[Result]:
        """Return everybody's value, in the order of ranks, to the first process; to others nothing."""
        if not self.is_distributed:
            return [value]
        box: list[Any] | None = [None] * self.world_size if self.is_main_process else None
        with self._peer_failure_as_exit():
            dist.gather_object(value, box, dst=0)
        return box or []

    def all_reduce_max(self, number: int) -> int:
        """Return the largest of everybody's numbers."""
        if not self.is_distributed:
            return number
        numbers = torch.tensor([number])
        with self._peer_failure_as_exit():
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers)

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """Return the mean of everybody's tensor; what is no number anywhere is none everywhere."""
        if not self.is_distributed:
            return values
        mean = values / self.world_size
        self.wait(self.all_reduce_async(mean))
        return mean

    def all_reduce_async(self, flat: Tensor) -> Any:
        """Begin to add up everybody's tensor in place; `finish` waits for the sum."""
        with self._peer_failure_as_exit():
            return dist.all_reduce(flat, async_op=True)

    def wait(self, work: Any) -> None:
        """Wait for a sum: on CUDA the stream does, not the host."""
        with self._peer_failure_as_exit():
            work.wait()

    def barrier(self) -> None:
        """Wait until all are here, however long it takes."""
        if not self.is_distributed:
            return
        self._barrier_count += 1
        place = f"here {self._barrier_count}"
        self._store.add(place, 1)
        while self._store.add(place, 0) < self.world_size:
            time.sleep(0.05)

    @contextmanager
    def exit_when_hung(self) -> Iterator[None]:
        """End this process where it does not talk to the others for longer than they would wait."""
        if not self.is_distributed:
            yield
            return
        self._last_contact = time.monotonic()

        def is_hung() -> bool:
            return time.monotonic() - self._last_contact > self.timeout + GRACE

        def exit_process() -> None:
            self._print_last_error(self._hang_message())
            os._exit(1)

        with exit_when(is_hung, exit_process):
            yield

    def is_peer_failure(self, error: Exception) -> bool:
        """Say whether an error means that another process is gone."""
        text = str(error).lower()
        named = isinstance(error, dist.DistError) or "gloo" in text or "nccl" in text
        return self.is_distributed and named

    def peer_failure_exit(self, error: Exception) -> PeerExit:
        """Say, if nobody did, that another process is gone; return what to raise."""
        late = "imed out" in str(error) or "imeout" in str(error)
        self._print_last_error(
            self._hang_message() if late else
            "another process of this run has ended; checkpoints are intact, the same command continues"
        )  # fmt: skip
        return PeerExit(1)

    def _hang_message(self) -> str:
        return (
            f"a process hangs: nothing was heard of it for {self.timeout:g} s (runtime.timeout); "
            "checkpoints are intact, the same command continues"
        )

    @contextmanager
    def _peer_failure_as_exit(self) -> Iterator[None]:
        """Turn what a library says of a lost process into one line."""
        try:
            yield
        except (RuntimeError, ConnectionError) as error:
            if "DataLoader worker" in str(error):  # it is raised at any moment
                raise
            raise self.peer_failure_exit(error) from None
        self._last_contact = time.monotonic()

    def _print_last_error(self, text: str) -> None:
        """Print why the run ends, if no other process did."""
        if self._claims_error_report():
            print(f"error: {one_line(RuntimeError(text))}", file=self._stderr, flush=True)

    def _claims_error_report(self) -> bool:
        if self._store is None:  # before they meet all know the same; then each what stops it
            return self.is_main_process or self._starting
        try:
            return self._store.add("spoken", 1) == 1
        except RuntimeError:  # the store went with torchrun
            return True

    def _exit_now(self, error: BaseException) -> None:
        """End the process at once: the others are elsewhere, and the libraries would wait for them."""
        code = getattr(error, "exit_code", 1)
        if isinstance(error, UserError | RunError):
            code = print_error(error, aloud=self._claims_error_report())
        elif not isinstance(error, PeerExit | KeyboardInterrupt | SystemExit):
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if not isinstance(error, KeyboardInterrupt) else 130)
