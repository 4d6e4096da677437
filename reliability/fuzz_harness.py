"""Try many cases in a child process: each limited in time, all in memory, and every failure kept."""

import contextlib
import faulthandler
import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

MB = 1_000_000
WARMING = (
    30  # cases, a sound one first, until what is loaded late is loaded; then memory is measured
)


@dataclass(frozen=True)
class Case:
    """One thing to try: a file's name, which says what was done to it, and its bytes."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Limits:
    """What a case may take."""

    seconds: int  # each
    growth: float  # MB of resident memory that all of them together may leave behind
    peak: float  # MB of resident memory above the beginning, at any moment
    address_space: float = 0.0  # MB that the process may ask for beyond what it has; 0: no limit


@dataclass
class Report:
    """What came of the cases."""

    outcomes: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    growth: float = 0.0  # MB
    peak: float = 0.0  # MB

    def line(self, kind: str) -> str:
        """Return the one line that says it."""
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        return (
            f"{kind}: {sum(self.outcomes.values()) + len(self.failures)} cases: {outcomes or 'none passed'}, "
            f"{len(self.failures)} failed; slowest {self.slowest[0]:.2f} s ({self.slowest[1]}); "
            f"memory grew {self.growth:.0f} MB, {self.peak:.0f} MB at most"
        )


Check = Callable[[Path], str]
"""From a case's file to the name of an allowed outcome; any exception is a failure."""


class TooSlow(BaseException):
    """Nobody's `except Exception` may catch it."""


def run_cases(cases: Iterable[Case], judge: Check, limits: Limits, folder: Path) -> Report:
    """Judge every case in a child of this process; failing ones stay in `folder`, with the reason.

    A case that ends the child (a crash in a decoder, a hang that no signal stops) is the last one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        code = 70
        try:
            report = _judge_all(cases, judge, limits, folder)
            (folder / "report.json").write_text(json.dumps(asdict(report)))
            code = 0
        except BaseException:  # a mistake of the fuzzer's own: the parent shows it
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        written = json.loads((folder / "report.json").read_text())
        (folder / "report.json").unlink()
        return Report(**{**written, "slowest": tuple(written["slowest"])})
    last = (folder / "stderr").read_text(errors="replace").strip()[-400:]
    return Report(failures=[f"the process ended with {code} at a file of {folder}: {last}"])


def _judge_all(cases: Iterable[Case], judge: Check, limits: Limits, folder: Path) -> Report:
    report, outcomes = Report(), Counter()
    printed = open(folder / "stderr", "w+b")  # noqa: SIM115 (open as long as the process)
    os.dup2(printed.fileno(), 2)
    signal.signal(signal.SIGALRM, _too_slow)
    forget_peak()
    start = early = resident()
    if limits.address_space:
        most = address_space() + int(limits.address_space * MB)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for number, case in enumerate(cases):
        path = folder / f"{number:05d}_{case.name}"
        path.write_bytes(case.content)
        began = time.perf_counter()
        reason = _failure(path, judge, limits.seconds, printed, outcomes)
        seconds = time.perf_counter() - began
        report.slowest = max(report.slowest, (round(seconds, 3), path.name))
        if reason:
            report.failures.append(f"{path}: {reason}")
            path.with_name(path.name + ".why").write_text(reason + "\n")
        else:
            path.unlink()
        if number == WARMING:
            gc.collect()
            early = resident()
    gc.collect()
    report.outcomes, report.growth = dict(outcomes), (resident() - early) / MB
    report.peak = max(peak() - start, 0) / MB
    for name in ("growth", "peak"):
        if getattr(report, name) > getattr(limits, name):
            report.failures.append(f"{name} of memory over its bound, {getattr(limits, name)} MB")
    printed.close()
    (folder / "stderr").unlink()
    return report


def _failure(
    path: Path, judge: Check, seconds: int, printed: IO[bytes], outcomes: Counter[str]
) -> str:
    """Judge one case; return why it failed, or nothing."""
    # The alarm needs Python to run; where a library's loop keeps it out, this ends the process.
    faulthandler.dump_traceback_later(seconds + 30, exit=True, file=printed.fileno())
    signal.alarm(seconds)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            outcome = judge(path)
        signal.alarm(0)
    except TooSlow:
        return f"took more than {seconds} s"
    except BaseException as error:
        signal.alarm(0)
        return f"{type(error).__name__}: {error}"[:2000]
    finally:
        faulthandler.cancel_dump_traceback_later()
    with contextlib.suppress(ValueError):
        sys.stderr.flush()
    if os.fstat(2).st_size:
        printed.seek(0)
        said = printed.read().decode(errors="replace")
        printed.seek(0)
        printed.truncate()
        return f"printed: {said[:500]}"
    if warned:
        return f"warned: {warned[0].message}"[:500]
    outcomes[outcome] += 1
    return ""


def _too_slow(*_: object) -> None:
    raise TooSlow


def resident() -> int:
    """Return the bytes of memory that this process has in use."""
    return _pages(1)


def forget_peak() -> None:
    """Let the peak begin anew: a child inherits what its parent once had."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Return the most bytes of memory that this process has had in use since then."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def address_space() -> int:
    """Return the bytes of address space that this process has taken."""
    return _pages(0)


def _pages(column: int) -> int:
    return int(Path("/proc/self/statm").read_text().split()[column]) * resource.getpagesize()
