"""Checkpoints: whole or not at all, and never code."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

import engine.state as state_module
from engine.state import Checkpoints, load, sole_owner, write_atomically, write_text
from errors import RunError, UserError
from tests.conftest import PYTHON


def test_what_is_saved_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 3, "x": torch.arange(4)}, 3)
    state = checkpoints.load_latest()
    assert state["step"] == 3 and torch.equal(state["x"], torch.arange(4))


def test_the_newest_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, score in ((1, 0.5), (2, 0.1), (3, 0.4), (4, None), (5, 0.3)):
        checkpoints.save({"step": step}, step, score)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == [f"step_{n:08d}.pt" for n in (2, 4, 5)]
    assert checkpoints.load_latest()["step"] == 5
    assert checkpoints.load_best()["step"] == 2


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 1, "x": torch.zeros(100)}, 1)
    path = checkpoints.save({"step": 2, "x": torch.ones(100)}, 2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert checkpoints.load_latest()["step"] == 1
    assert path.name in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_checkpoint_is_refused_in_a_line_that_names_it(tmp_path, content):
    path = tmp_path / "step_1.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="step_1.pt"):
        load(path)


class Payload:
    def __reduce__(self):
        return os.system, ("touch marker",)


def test_a_checkpoint_never_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "x": Payload()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="evil.pt"):
        load(tmp_path / "evil.pt")
    assert not (tmp_path / "marker").exists()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"file.*No space left.*MB free"):
        write_atomically(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_text() == "old"


def test_data_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            state_module.os,
            name,
            lambda *a, name=name, real=real: (calls.append(name), real(*a))[1],
        )
    write_text(tmp_path / "file", "new")
    assert calls == ["fsync", "replace", "fsync"]


CRASHES = """
import os, sys, tempfile
from pathlib import Path
import engine.state as state

def crash_at(moment, name, folder):
    owner = state if name == "open" else os
    real, left = (open if name == "open" else getattr(os, name)), [moment]
    def crash(*arguments, **keywords):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return real(*arguments, **keywords)
    setattr(owner, name, crash)
    state.Checkpoints(folder, keep=1).save({"step": 2}, 2)
    os._exit(0)

for name in ("open", "fsync", "replace", "unlink"):
    for moment in range(5):
        with tempfile.TemporaryDirectory() as folder:
            state.Checkpoints(Path(folder), keep=1).save({"step": 1}, 1)
            child = os.fork() or crash_at(moment, name, Path(folder))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(name, moment, code, state.Checkpoints(Path(folder)).load_latest()["step"])
"""


def test_a_crash_at_any_moment_of_a_save_leaves_a_checkpoint_that_loads():
    environment = {**os.environ, "PYTHONPATH": str(Path(state_module.__file__).parents[1])}
    done = subprocess.run(
        [PYTHON, "-c", CRASHES], capture_output=True, text=True, env=environment, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 20 and {row[3] for row in rows} == {"1", "2"}
    assert {row[2] for row in rows} == {"0", "9"}  # some of them did crash


def test_a_run_folder_has_one_owner(tmp_path):
    with (
        sole_owner(tmp_path),
        pytest.raises(UserError, match=f"process {os.getpid()}"),
        sole_owner(tmp_path),
    ):
        pass
    with sole_owner(tmp_path):
        pass


def test_stale_partial_files_are_swept(tmp_path):
    (tmp_path / "step_1.pt.tmp").write_bytes(b"x")
    Checkpoints(tmp_path).save({"step": 1}, 1)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_damaged_manifest_is_said_so(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="manifest.json is damaged"):
        Checkpoints(tmp_path).load_latest()


def test_the_manifest_names_latest_and_best(tmp_path):
    Checkpoints(tmp_path).save({"step": 7}, 7, 0.5)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["latest"] == manifest["best"] == "step_00000007.pt"
