"""Processes that read files may die or hang without affecting the results for other files."""

import multiprocessing
import sys
import time
from pathlib import Path

import pytest

from common.errors import RunError
from common.free_memory import free_ram
from data.doctor.subprocess_map import WorkerFailure, map_in_subprocesses

# In a module of its own, which the processes can import.
READER = """
import os, signal, time

def read(path):
    if path.name == "kills":
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.name == "leaves":
        os._exit(3)
    if path.name == "hangs":
        time.sleep(60)
    if path.name == "swallows":
        try:
            return str(len(bytearray(int(os.environ["WANTED"]))))
        except MemoryError:
            return "no memory"
    return path.name
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    (tmp_path / "hostile_reader.py").write_text(READER)
    monkeypatch.syspath_prepend(str(tmp_path))
    import hostile_reader

    yield hostile_reader.read
    del sys.modules["hostile_reader"]


def test_a_file_that_kills_or_stalls_its_reader_costs_that_file_alone(read):
    names = ["a", "kills", "b", "hangs", "c", "leaves", "d", "e"]
    started = time.monotonic()
    results = dict(map_in_subprocesses(read, [Path(name) for name in names], 2, seconds=3))
    assert time.monotonic() - started < 40
    assert sorted(results) == list(range(8))
    assert [results[n] for n in (0, 2, 4, 6, 7)] == ["a", "b", "c", "d", "e"]
    reasons = [answer.reason for n in (1, 3, 5) if isinstance(answer := results[n], WorkerFailure)]
    assert "SIGSEGV" in reasons[0] and "within 3 seconds" in reasons[1] and "code 3" in reasons[2]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce the limit")
def test_memory_above_the_limit_is_refused(read, monkeypatch):
    # More than a process may take, but not more than the system would promise.
    monkeypatch.setenv("WANTED", str(max(2**33, free_ram() * 3 // 4)))
    assert dict(map_in_subprocesses(read, [Path("swallows")], 1, seconds=30)) == {0: "no memory"}


def test_all_processes_end_when_the_iterator_is_closed(read):
    answers = map_in_subprocesses(read, [Path(str(n)) for n in range(9)], 2, seconds=30)
    next(answers)
    assert multiprocessing.active_children()
    answers.close()
    assert not multiprocessing.active_children()


def test_no_files_need_no_process(read):
    assert list(map_in_subprocesses(read, [], 4, seconds=1)) == []


def test_a_process_that_cannot_start_is_an_error_of_its_own(read, tmp_path):
    (tmp_path / "hostile_reader.py").write_text("raise SystemExit(1)")
    with pytest.raises(RunError, match="does not start"):
        list(map_in_subprocesses(read, [Path("a"), Path("b")], 2, seconds=30))
    assert not multiprocessing.active_children()
