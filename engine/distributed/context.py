"""Start, connect and end the processes that train one run together."""

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

from common.errors import Interrupted, PeerExit, RunError, UserError, one_line
from common.run_main import print_error
from engine.distributed.hang_detector import exit_when
from engine.distributed.store_prefix import agree_on_store_prefix
from engine.hardware.device import RuntimeConfig, choose_device

GRACE_SECONDS = 5.0  # that a hanging process waits longer than the processes that notice it
PEER_ENDED = (
    "another process of this run has ended; checkpoints are intact, the same command continues"
)
Result = TypeVar("Result")


class DistributedContext:
    """The processes that train one run together, as torchrun started them; without torchrun, one.

    All ranks make the same calls in the same order. Where one has ended or hangs, the others exit
    with code 1, and one of them prints why. While the context is entered, only rank 0 prints.
    """

    def __init__(
        self, rank: int = 0, world_size: int = 1, local_rank: int = 0, local_world_size: int = 0
    ) -> None:
        """Take this process's rank among `world_size` processes, and those of its machine.

        `local_world_size` of 0 means that all processes are on this machine.
        """
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
        """Return the context of torchrun's environment variables; one process without them.

        UserError where they are not numbers.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        if not all(name in os.environ for name in names):
            return cls()
        try:
            rank, world_size, local_rank = (int(os.environ[name]) for name in names[:3])
            local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
        except ValueError:
            raise UserError(
                f"{', '.join(names[:3])} are set but are not numbers; "
                "start with torchrun, or unset them"
            ) from None
        return cls(rank, world_size, local_rank, local_world_size)

    @property
    def is_main_process(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there is more than one process."""
        return self.world_size > 1

    def __enter__(self) -> Self:
        self._stderr = sys.stderr
        if not self.is_main_process:
            devnull = self._redirects.enter_context(open(os.devnull, "w"))
            self._redirects.enter_context(contextlib.redirect_stdout(devnull))
            self._redirects.enter_context(contextlib.redirect_stderr(devnull))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._redirects.close()
        if not self.is_distributed:
            return
        agreed = isinstance(error, Interrupted) or getattr(error, "exit_code", None) == 3
        if error is None or agreed:
            # All ranks end here, and wait until rank 0 has written everything.
            if dist.is_initialized():
                with self._peer_failure_as_exit():
                    dist.barrier()
                # torchrun sends it to the others when one process has ended.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                dist.destroy_process_group()
            if error is not None and not self.is_main_process:
                raise PeerExit(error.exit_code)  # pyright: ignore[reportAttributeAccessIssue]
            return
        self._exit_now(error)

    def init_process_group(self, config: RuntimeConfig) -> None:
        """Connect to the other processes, with NCCL for CUDA tensors and gloo for the others.

        UserError where the device is missing, RunError where a process cannot be reached.
        """
        if not self.is_distributed:
            return
        self._starting = True
        try:
            store = next(rendezvous("env://"))[0]
        except (RuntimeError, ValueError, OSError) as error:
            raise RunError(
                f"the processes cannot reach each other ({one_line(error, 120)})"
            ) from None
        prefix = agree_on_store_prefix(store, self.rank, self.world_size, config.timeout)
        self._store = PrefixStore(prefix, store)
        device = choose_device(config.device, self.local_rank, self.world_size)
        cuda = device.type == "cuda"
        if cuda:
            torch.cuda.set_device(device)
        self.timeout = config.timeout
        # A wait for CUDA cannot be interrupted: there `exit_when_hung` ends the process first.
        limit = timedelta(seconds=config.timeout + (2 * GRACE_SECONDS if cuda else 0))
        with self._peer_failure_as_exit():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if cuda else "gloo", store=self._store,
                rank=self.rank, world_size=self.world_size, timeout=limit,
            )  # fmt: skip

    def call_on_main(self, function: Callable[[], Result], wait_forever: bool = False) -> Result:
        """Call `function` on rank 0, return its result on all; `wait_forever`: without timeout."""
        if not self.is_distributed:
            return function()
        box: list[Any] = [function() if self.is_main_process else None]
        if wait_forever:
            self._broadcast_count += 1
            name = f"broadcast {self._broadcast_count}"
            if self.is_main_process:
                self._store.set(name, b"")
            while not self._store.check([name]):
                time.sleep(0.05)
        with self._peer_failure_as_exit():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def scatter_object(self, parts: Sequence[Result]) -> Result:
        """Return element `rank` of the `parts` that rank 0 passes."""
        if not self.is_distributed:
            return parts[0]
        box: list[Any] = [None]
        with self._peer_failure_as_exit():
            dist.scatter_object_list(box, list(parts) if self.is_main_process else None, src=0)
        return box[0]

    def gather_object(self, value: Result) -> list[Result]:
        """Return the values of all ranks, in order, on rank 0; an empty list on the others."""
        if not self.is_distributed:
            return [value]
        box: list[Any] | None = [None] * self.world_size if self.is_main_process else None
        with self._peer_failure_as_exit():
            dist.gather_object(value, box, dst=0)
        return box or []

    def all_reduce_max(self, number: int) -> int:
        """Return the largest number of all ranks."""
        if not self.is_distributed:
            return number
        numbers = torch.tensor([number])
        with self._peer_failure_as_exit():
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers)

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over all ranks; a NaN on any rank becomes NaN on all."""
        if not self.is_distributed:
            return values
        mean = values / self.world_size
        self.wait(self.all_reduce_async(mean))
        return mean

    def all_reduce_async(self, flat: Tensor) -> Any:
        """Start to sum a tensor over all ranks, in place; `wait` waits for the result."""
        with self._peer_failure_as_exit():
            return dist.all_reduce(flat, async_op=True)

    def wait(self, work: Any) -> None:
        """Wait for an all-reduce; on CUDA the stream waits, not the host."""
        with self._peer_failure_as_exit():
            work.wait()

    def barrier(self) -> None:
        """Wait until all ranks have called this, without a timeout."""
        if not self.is_distributed:
            return
        self._barrier_count += 1
        key = f"barrier {self._barrier_count}"
        self._store.add(key, 1)
        while self._store.add(key, 0) < self.world_size:
            time.sleep(0.05)

    @contextmanager
    def exit_when_hung(self) -> Iterator[None]:
        """End this process if it does not communicate for longer than the others wait for it."""
        if not self.is_distributed:
            yield
            return
        self._last_contact = time.monotonic()

        def is_hung() -> bool:
            return time.monotonic() - self._last_contact > self.timeout + GRACE_SECONDS

        def exit_process() -> None:
            self._print_last_error(self._hang_message())
            os._exit(1)

        with exit_when(is_hung, exit_process):
            yield

    def is_peer_failure(self, error: Exception) -> bool:
        """Return whether an error means that another process has ended or hangs."""
        text = str(error).lower()
        is_communication = isinstance(error, dist.DistError) or "gloo" in text or "nccl" in text
        return self.is_distributed and is_communication

    def peer_failure_exit(self, error: Exception) -> PeerExit:
        """Print once per run that another process has ended or hangs; return what to raise."""
        timed_out = "imed out" in str(error) or "imeout" in str(error)
        self._print_last_error(self._hang_message() if timed_out else PEER_ENDED)
        return PeerExit(1)

    def _hang_message(self) -> str:
        return (
            f"a process hangs: it did not communicate for {self.timeout:g} s (runtime.timeout); "
            "checkpoints are intact, the same command continues"
        )

    @contextmanager
    def _peer_failure_as_exit(self) -> Iterator[None]:
        """Turn a library's error about a lost process into one line and a `PeerExit`."""
        try:
            yield
        except (RuntimeError, ConnectionError) as error:
            if "DataLoader worker" in str(error):  # of this process, whatever it was waiting for
                raise
            raise self.peer_failure_exit(error) from None
        self._last_contact = time.monotonic()

    def _print_last_error(self, text: str) -> None:
        """Print why the run ends, if no other process has."""
        if self._claims_error_report():
            print(f"error: {one_line(RuntimeError(text))}", file=self._stderr, flush=True)

    def _claims_error_report(self) -> bool:
        # Without a store all ranks end for the same reason, except while they connect.
        if self._store is None:
            return self.is_main_process or self._starting
        try:
            return self._store.add("error reported", 1) == 1
        except RuntimeError:  # the store has ended with torchrun
            return True

    def _exit_now(self, error: BaseException) -> None:
        """End the process at once: the libraries would wait for the other processes."""
        code = getattr(error, "exit_code", 1)
        if isinstance(error, UserError | RunError):
            code = print_error(error, aloud=self._claims_error_report())
        elif not isinstance(error, PeerExit | KeyboardInterrupt | SystemExit):
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if not isinstance(error, KeyboardInterrupt) else 130)
