"""Run a command in a forked process, with its time, memory and output recorded."""

import contextlib
import faulthandler
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.run_main import run_command
from reliability.fuzz_harness import MB, peak_bytes, reset_peak, resident_bytes

SECONDS, MEGABYTES = 30.0, 1000.0  # that a command may take for a hostile input
EXIT_CODES = (0, 1, 2)  # done, failed, refused
SMALL = [
    "method.generator.channels=4", "method.generator.blocks=1", "method.discriminator.channels=4",
    "method.discriminator.layers=1", "data.load_size=20", "data.crop_size=16", "data.workers=0",
    "log.wandb=disabled", "runtime.device=cpu", "runtime.threads=1", "validation_images=2",
    "log.previews=1", "log.every=1", "data.bad_images=skip",
]  # fmt: skip
"""Options of a run that trains in a second."""


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int  # exit code; negative: the signal that ended it
    output: str
    errors: str
    seconds: float
    megabytes: float  # peak of resident memory above that at the start

    @property
    def problem(self) -> str:
        """Return what breaks the promise about hostile input, "" if nothing does."""
        text = self.output + self.errors
        if self.seconds > SECONDS:
            return f"took {self.seconds:.0f} s"
        if "Traceback" in text:
            return f"traceback: {' | '.join(text.strip().splitlines()[-4:])}"
        if self.code not in EXIT_CODES:
            return f"exit code {self.code}: {text.strip()[-300:]}"
        if self.megabytes > MEGABYTES:
            return f"took {self.megabytes:.0f} MB"
        if self.code and not self.errors.strip():
            return f"exit code {self.code} without a line of error"
        return ""


def run_in_child(
    main: Callable[[list[str]], int | None], words: list[str],
    prepare: Callable[[], Any] = lambda: None,
) -> Result:  # fmt: skip
    """Run a command's main function in a forked process as the shell would, and record it.

    `prepare` runs in the process first. A command that takes longer than SECONDS is killed.
    """
    with tempfile.TemporaryDirectory(prefix="command_") as folder:
        began, paths = time.monotonic(), [Path(folder) / name for name in ("out", "err", "peak")]
        child = os.fork()
        if not child:
            _become_command(main, words, prepare, paths)
        code = _wait(child, began + SECONDS)
        texts = [p.read_text(errors="replace") if p.exists() else "" for p in paths]
        seconds = time.monotonic() - began
        return Result(code, texts[0], texts[1], seconds, float(texts[2] or 0))


def _become_command(
    main: Callable[[list[str]], int | None], words: list[str], prepare: Callable[[], Any],
    paths: list[Path],
) -> None:  # fmt: skip
    """Run the command in this process, and end it."""
    code = 70
    try:
        os.setsid()  # what it starts is killed with it
        faulthandler.disable()
        for number, path in zip((1, 2), paths, strict=False):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.stdout, sys.stderr = _stream(1), _stream(2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        torch.set_num_threads(1)  # a fork has none of the threads that its parent started
        sys.argv = ["command", *words]
        reset_peak()
        before = resident_bytes()
        prepare()
        try:
            run_command(main)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        paths[2].write_text(str((peak_bytes() - before) / MB))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _stream(number: int) -> io.TextIOWrapper:
    file = open(number, "wb", closefd=False)  # noqa: SIM115 (open as long as the process)
    return io.TextIOWrapper(file, errors="backslashreplace", line_buffering=True)


def _wait(child: int, deadline: float) -> int:
    """Return the exit code of a process; kill it, and what it started, after the deadline."""
    pause = 0.005
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended and time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            ended, status = os.waitpid(child, 0)
        if ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
