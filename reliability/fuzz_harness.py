"""Run many cases in a child process with limits on time and memory, and save every failing case."""

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
# The first cases load modules and libraries late; the growth of memory is measured after them.
WARM_UP_CASES = 30


@dataclass(frozen=True)
class Case:
    """One input: a file name, which describes the damage, and the bytes of the file."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Limits:
    """Limits on the time of each case and on the memory of all cases."""

    seconds: int  # per case
    growth: float  # MB by which resident memory may have grown after all cases
    peak: float  # MB of resident memory above that at the start, at any moment
    address_space: float = 0.0  # MB that the process may map in addition; 0: no limit


@dataclass
class Report:
    """The outcomes, failures, slowest case and memory use of all cases."""

    outcomes: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    growth: float = 0.0  # MB
    peak: float = 0.0  # MB

    def line(self, kind: str) -> str:
        """Return the report as one line."""
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        return (
            f"{kind}: {sum(self.outcomes.values()) + len(self.failures)} cases: "
            f"{outcomes or 'none passed'}, "
            f"{len(self.failures)} failed; slowest {self.slowest[0]:.2f} s ({self.slowest[1]}); "
            f"memory grew {self.growth:.0f} MB, {self.peak:.0f} MB at most"
        )


Check = Callable[[Path], str]
"""Maps the file of a case to the name of an allowed outcome; any exception is a failure."""


class TooSlow(BaseException):
    """A case took too long; a BaseException, so that no `except Exception` catches it."""


def run_cases(cases: Iterable[Case], check: Check, limits: Limits, folder: Path) -> Report:
    """Check every case in a child process; failing cases stay in `folder`, each with its reason.

    If a case ends the child (a crash in a decoder, or a hang that no signal interrupts), no further
    case runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        code = 70
        try:
            report = _check_all(cases, check, limits, folder)
            (folder / "report.json").write_text(json.dumps(asdict(report)))
            code = 0
        except BaseException:  # an error in the fuzzer itself: the parent reports it
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        report = json.loads((folder / "report.json").read_text())
        (folder / "report.json").unlink()
        return Report(**{**report, "slowest": tuple(report["slowest"])})
    last = (folder / "stderr").read_text(errors="replace").strip()[-400:]
    return Report(failures=[f"the process ended with {code} at a file of {folder}: {last}"])


def _check_all(cases: Iterable[Case], check: Check, limits: Limits, folder: Path) -> Report:
    report, outcomes = Report(), Counter()
    stderr_file = open(folder / "stderr", "w+b")  # noqa: SIM115 (open as long as the process)
    os.dup2(stderr_file.fileno(), 2)
    signal.signal(signal.SIGALRM, _raise_too_slow)
    reset_peak()
    at_start = after_warm_up = resident_bytes()
    if limits.address_space:
        limit = address_space_bytes() + int(limits.address_space * MB)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number, case in enumerate(cases):
        path = folder / f"{number:05d}_{case.name}"
        path.write_bytes(case.content)
        began = time.perf_counter()
        reason = _failure_reason(path, check, limits.seconds, stderr_file, outcomes)
        seconds = time.perf_counter() - began
        report.slowest = max(report.slowest, (round(seconds, 3), path.name))
        if reason:
            report.failures.append(f"{path}: {reason}")
            path.with_name(path.name + ".why").write_text(reason + "\n")
        else:
            path.unlink()
        if number == WARM_UP_CASES:
            gc.collect()
            after_warm_up = resident_bytes()
    gc.collect()
    report.outcomes, report.growth = dict(outcomes), (resident_bytes() - after_warm_up) / MB
    report.peak = max(peak_bytes() - at_start, 0) / MB
    for name in ("growth", "peak"):
        if getattr(report, name) > getattr(limits, name):
            report.failures.append(f"{name} of memory over the limit of {getattr(limits, name)} MB")
    stderr_file.close()
    (folder / "stderr").unlink()
    return report


def _failure_reason(
    path: Path, check: Check, seconds: int, stderr_file: IO[bytes], outcomes: Counter[str]
) -> str:
    """Check one case and count its outcome; return why it failed, or an empty string."""
    # The alarm needs the interpreter; if a library does not return to it, this ends the process.
    faulthandler.dump_traceback_later(seconds + 30, exit=True, file=stderr_file.fileno())
    signal.alarm(seconds)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            outcome = check(path)
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
        stderr_file.seek(0)
        text = stderr_file.read().decode(errors="replace")
        stderr_file.seek(0)
        stderr_file.truncate()
        return f"printed: {text[:500]}"
    if warned:
        return f"warned: {warned[0].message}"[:500]
    outcomes[outcome] += 1
    return ""


def _raise_too_slow(*_: object) -> None:
    raise TooSlow


def resident_bytes() -> int:
    """Return the bytes of resident memory of this process."""
    return _statm_bytes(1)


def reset_peak() -> None:
    """Reset the peak of resident memory, because a child process inherits that of its parent."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Return the peak of resident memory since `reset_peak`, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def address_space_bytes() -> int:
    """Return the size of the address space of this process, in bytes."""
    return _statm_bytes(0)


def _statm_bytes(column: int) -> int:
    return int(Path("/proc/self/statm").read_text().split()[column]) * resource.getpagesize()
