"""The fuzzers stay alive, notice what is wrong, and every hostile checkpoint is refused."""

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
        warnings.simplefilter("ignore")  # of the torch that makes it
        path.write_bytes(fuzz_checkpoints.HOSTILE[kind]())
    with pytest.raises(UserError) as refused:
        load_checkpoint(path)
    text = str(refused.value)
    assert "hostile.pt" in text and "\n" not in text and "weights_only" not in text
    assert not fuzz_checkpoints.MARKER.exists()


def test_bombs_are_refused_in_little_memory(tmp_path, record_property):
    names = ("bomb", "overlapping records", "10^12 numbers", "10^6 keys")
    cases = [Case("sound.pt", fuzz_checkpoints.sound())]
    cases += [Case(f"{n}.pt", fuzz_checkpoints.HOSTILE[name]()) for n, name in enumerate(names)]
    limits = Limits(seconds=10, growth=50, peak=50, address_space=300)
    report = run_cases(cases, fuzz_checkpoints.judge, limits, tmp_path / "cases")
    assert report.failures == [] and report.outcomes == {"loaded equal": 1, "refused": 4}
    record_property("figure", f"4 of 4 refused, {report.peak:.0f} MB at most")


@pytest.mark.parametrize(("kind", "count"), [("options", 80), ("images", 150), ("checkpoints", 60)])
def test_a_fuzzer_runs_and_says_so_in_a_line(tmp_path, capsys, monkeypatch, kind, count):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fuzz.fuzz_options, "shell_cases", lambda *_: iter(()))
    folder = tmp_path / "cases"
    assert fuzz.main([kind, "--count", str(count), "--keep", str(folder)]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"{kind}: {count} cases: ") and " 0 failed; slowest " in line
    assert not list(folder.iterdir())


def wrong(path: Path) -> str:
    """Behave as the case's content says."""
    asked = path.read_text()
    if asked == "raise":
        raise ValueError("as asked")
    if asked == "print":
        os.write(2, b"chatter")
    if asked == "warn":
        warnings.warn("careful", stacklevel=2)
    if asked == "hang":
        while True:
            try:
                time.sleep(1)
            except Exception:
                continue
    return "fine"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [("raise", "ValueError: as asked"), ("print", "printed: chatter"), ("warn", "careful"), ("hang",
    "took more")],
)  # fmt: skip
def test_a_case_that_misbehaves_is_kept_with_the_reason(tmp_path, asked, reason):
    cases = [Case("a.txt", b"fine"), Case("b.txt", asked.encode()), Case("c.txt", b"fine")]
    report = run_cases(cases, wrong, LIMITS, tmp_path)
    assert report.outcomes == {"fine": 2} and len(report.failures) == 1
    assert reason in report.failures[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001_b.txt", "00001_b.txt.why"]


def test_a_crash_and_memory_over_its_bound_are_failures(tmp_path):
    kept = []

    def crash(path: Path) -> str:
        os._exit(11)

    def hoard(path: Path) -> str:
        # Straight from the system: the heap may hold what earlier tests gave back.
        kept.append(mmap.mmap(-1, 20_000_000))
        kept[-1].write(b"x" * 20_000_000)
        return "fine"

    (reason,) = run_cases([Case("a", b"")], crash, LIMITS, tmp_path / "crash").failures
    assert "ended with 11" in reason and (tmp_path / "crash/00000_a").exists()
    cases = [Case("a", b"")] * 40
    report = run_cases(cases, hoard, Limits(5, growth=10, peak=5000), tmp_path / "hoard")
    assert report.failures == ["growth of memory over its bound, 10 MB"]
    report = run_cases(cases[:3], hoard, Limits(5, growth=900, peak=10), tmp_path / "peak")
    assert report.failures == ["peak of memory over its bound, 10 MB"]
