"""The fuzzers run and report failing cases, and every hostile checkpoint is refused."""

import mmap
import os
import time
import warnings
from pathlib import Path

import pytest

from common.errors import UserError
from engine.checkpoint import load_checkpoint
from reliability import fuzz, fuzz_checkpoints
from reliability.fuzz_harness import Case, Limits, run_cases

LIMITS = Limits(seconds=2, growth=1000, peak=1000)


@pytest.mark.parametrize("kind", fuzz_checkpoints.HOSTILE)
def test_a_hostile_checkpoint_is_refused_in_one_line_and_runs_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch raises while it builds the file
        path.write_bytes(fuzz_checkpoints.HOSTILE[kind]())
    with pytest.raises(UserError) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert "hostile.pt" in text and "\n" not in text and "weights_only" not in text
    assert not fuzz_checkpoints.MARKER.exists()


def test_bombs_are_refused_in_little_memory(tmp_path, record_property):
    names = ("bomb", "overlapping records", "10^12 numbers", "10^6 keys")
    cases = [Case("valid.pt", fuzz_checkpoints.valid_checkpoint())]
    cases += [Case(f"{n}.pt", fuzz_checkpoints.HOSTILE[name]()) for n, name in enumerate(names)]
    limits = Limits(seconds=10, growth=50, peak=50, address_space=300)
    report = run_cases(cases, fuzz_checkpoints.check, limits, tmp_path / "cases")
    assert report.failures == [] and report.outcomes == {"loaded equal": 1, "refused": 4}
    record_property("figure", f"4 of 4 refused, {report.peak:.0f} MB at most")


@pytest.mark.parametrize(("kind", "count"), [("options", 80), ("images", 150), ("checkpoints", 60)])
def test_a_fuzzer_runs_and_prints_one_line(tmp_path, capsys, monkeypatch, kind, count):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fuzz.fuzz_options, "shell_cases", lambda *_: iter(()))
    folder = tmp_path / "cases"
    assert fuzz.main([kind, "--count", str(count), "--keep", str(folder)]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"{kind}: {count} cases: ") and " 0 failed; slowest " in line
    assert not list(folder.iterdir())


def misbehave(path: Path) -> str:
    """Behave as the content of the file names."""
    behaviour = path.read_text()
    if behaviour == "raise":
        raise ValueError("on purpose")
    if behaviour == "print":
        os.write(2, b"chatter")
    if behaviour == "warn":
        warnings.warn("careful", stacklevel=2)
    if behaviour == "hang":
        while True:
            try:
                time.sleep(1)
            except Exception:
                continue
    return "fine"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("raise", "ValueError: on purpose"),
        ("print", "printed: chatter"),
        ("warn", "careful"),
        ("hang", "took more"),
    ],
)
def test_a_case_that_misbehaves_is_saved_with_the_reason(tmp_path, behaviour, reason):
    cases = [Case("a.txt", b"fine"), Case("b.txt", behaviour.encode()), Case("c.txt", b"fine")]
    report = run_cases(cases, misbehave, LIMITS, tmp_path)
    assert report.outcomes == {"fine": 2} and len(report.failures) == 1
    assert reason in report.failures[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001_b.txt", "00001_b.txt.why"]


def test_a_crash_and_memory_over_its_limit_are_failures(tmp_path):
    memory = []

    def crash(path: Path) -> str:
        os._exit(11)

    def hoard(path: Path) -> str:
        # Mapped directly: the heap may reuse memory that earlier tests freed.
        memory.append(mmap.mmap(-1, 20_000_000))
        memory[-1].write(b"x" * 20_000_000)
        return "fine"

    (reason,) = run_cases([Case("a", b"")], crash, LIMITS, tmp_path / "crash").failures
    assert "ended with 11" in reason and (tmp_path / "crash/00000_a").exists()
    cases = [Case("a", b"")] * 40
    report = run_cases(cases, hoard, Limits(5, growth=10, peak=5000), tmp_path / "hoard")
    assert report.failures == ["growth of memory over the limit of 10 MB"]
    report = run_cases(cases[:3], hoard, Limits(5, growth=900, peak=10), tmp_path / "peak")
    assert report.failures == ["peak of memory over the limit of 10 MB"]
