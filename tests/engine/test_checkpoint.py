"""Checkpoints are written whole or not at all, and loading one never runs code."""

import json
import os
import re
import subprocess
from pathlib import Path
from random import Random

import pytest
import torch

import common.files as files_module
from common.errors import RunError, UserError
from common.files import write_atomically, write_text
from common.run_folder import run_lock
from engine.checkpoint import Checkpoints, load_checkpoint, state_dict_mismatch
from models import methods
from options.load import from_yaml
from tests.conftest import PYTHON, ROOT, raises_user_error


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
    with raises_user_error(path=path):
        load_checkpoint(path)


def test_every_flipped_bit_and_lost_byte_is_found(tmp_path, record_property):
    path = Checkpoints(tmp_path).save({"step": 1, "x": torch.arange(500.0)}, 1)
    content = path.read_bytes()
    sha256 = json.loads((tmp_path / "manifest.json").read_text())["files"][path.name]["sha256"]
    random = Random(0)
    flips = [random.randrange(8 * len(content)) for _ in range(64)]
    damaged = [content[:-1], content[:100], content[1:]]
    for bit in flips:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(changed))
    found = 0
    for change in damaged:
        path.write_bytes(change)
        with raises_user_error(path=path):
            load_checkpoint(path, sha256)
        found += 1
    record_property("figure", f"{found} of {len(damaged)} found")


def test_a_file_named_by_its_path_is_checked_by_the_checksums_in_it(tmp_path):
    path = Checkpoints(tmp_path).save({"step": 1, "x": torch.ones(100)}, 1)
    content = path.read_bytes()
    ones = torch.ones(100).numpy().tobytes()
    assert content.count(ones) == 1
    path.write_bytes(content.replace(ones, ones[:-1] + b"\x40"))
    with pytest.raises(UserError, match="data/0") as caught:  # the record in the archive
        load_checkpoint(path)
    assert caught.value.path == str(path)


def test_weights_that_do_not_fit_are_named():
    wanted = {f"w{n}": torch.zeros(2) for n in range(5)} | {"extra": {"images": []}}
    assert state_dict_mismatch(wanted, wanted) == ""
    assert (
        state_dict_mismatch(wanted, {"extra": {}, "x": 1})
        == "missing w0, w1, w2 and 2 more; unknown x"
    )
    other = wanted | {"w1": torch.zeros(3), "w2": torch.tensor([0.0, float("nan")])}
    assert state_dict_mismatch(wanted, other) == "of another size w1; not finite w2"


class Payload:
    def __reduce__(self):
        return os.system, ("touch marker",)


def test_a_checkpoint_never_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "x": Payload()}, tmp_path / "evil.pt")
    with raises_user_error(path=tmp_path / "evil.pt"):
        load_checkpoint(tmp_path / "evil.pt")
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


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from engine.checkpoint import Checkpoints
from common.errors import RunError, one_line

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.save({"step": 1}, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    checkpoints.save({"step": 2, "x": torch.zeros(1_000_000)}, 2)
except RunError as error:
    print(error.exit_code, one_line(error))
print(checkpoints.load_latest()["step"], *sorted(path.name for path in Path(sys.argv[1]).iterdir()))
"""


def test_a_full_disk_is_said_so_and_the_checkpoint_before_stands(tmp_path):
    done = python(FULL_DISK, tmp_path)
    error, left = done.splitlines()
    assert re.match(
        r"1 .*step_00000002.pt: could not be written, disk full "
        r"\(File too large; 4.0 MB needed, .* MB free",
        error,
    )
    assert "MB free" in error and left == "1 manifest.json step_00000001.pt"


def test_data_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            files_module.os,
            name,
            lambda *a, name=name, real=real: (calls.append(name), real(*a))[1],
        )
    write_text(tmp_path / "file", "new")
    assert calls == ["fsync", "replace", "fsync"]


CRASHES = """
import os, sys, tempfile
from pathlib import Path
import common.files as files
import engine.checkpoint as state

def crash_at(moment, name, folder):
    real, left = (open if name == "open" else getattr(os, name)), [moment]
    def crash(*arguments, **keywords):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return real(*arguments, **keywords)
    for owner in (files, state) if name == "open" else (os,):
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


def python(source: str, *arguments: object) -> str:
    """Run a source in a process of its own, the project on its path; return what it prints."""
    done = subprocess.run(
        [PYTHON, "-c", source, *map(str, arguments)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(files_module.__file__).parents[1])},
    )  # fmt: skip
    return done.stdout


def test_a_crash_at_any_moment_of_a_save_leaves_a_checkpoint_that_loads(record_property):
    rows = [line.split() for line in python(CRASHES).splitlines()]
    assert len(rows) == 20 and {row[3] for row in rows} == {"1", "2"}
    crashed = [row for row in rows if row[2] == "9"]
    assert {row[2] for row in rows} == {"0", "9"}  # some of them did crash
    record_property("figure", f"0 of {len(crashed)} crashes lost a checkpoint")


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from engine.checkpoint import Checkpoints

torch.set_num_threads(1)  # a forked process has no other threads to wait for

def save_for_ever(folder, pipe, first):
    checkpoints, x, step = Checkpoints(folder), torch.zeros(250_000), first
    while True:
        step += 1
        checkpoints.save({"step": step, "x": x + step}, step)
        os.write(pipe, step.to_bytes(8, "little"))

folder, draw = Path(sys.argv[1]), random.Random(0)
last = 5
began = time.monotonic()
for n in range(1, last + 1):
    Checkpoints(folder).save({"step": n, "x": torch.zeros(250_000) + n}, n)
duration = (time.monotonic() - began) / 5
for kill in range(int(sys.argv[2])):
    reading, writing = os.pipe()
    child = os.fork() or save_for_ever(folder, writing, last)
    os.close(writing)
    time.sleep(draw.uniform(0, 3 * duration))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    reported = os.read(reading, 1_000_000)
    os.close(reading)
    finished = int.from_bytes(reported[-8:], "little") if reported else last
    state = Checkpoints(folder).load_latest()
    assert bool((state["x"] == state["step"]).all())
    assert state["step"] >= finished, (state["step"], finished)
    last = state["step"]
print(last, len(list(folder.glob("*.pt"))))
"""


@pytest.mark.slow
def test_two_hundred_kills_while_saving_lose_no_checkpoint_that_was_finished(
    tmp_path, record_property
):
    last, files = map(int, python(KILLS, tmp_path, 200).split())
    assert last > 20 and files <= 4  # the runs did save; a torn file may be among the others
    record_property("figure", f"0 of 200 kills lost a finished checkpoint; {last} saves")


def test_a_file_that_cannot_be_removed_does_not_stop_a_run(tmp_path, monkeypatch, capsys):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save({"step": 1}, 1)

    def refuse(self, missing_ok=False):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    checkpoints.save({"step": 2}, 2)
    assert checkpoints.load_latest()["step"] == 2
    assert "step_00000001.pt could not be removed" in capsys.readouterr().err


def test_a_run_folder_has_one_owner(tmp_path):
    with (
        run_lock(tmp_path),
        pytest.raises(UserError, match=f"process {os.getpid()}"),
        run_lock(tmp_path),
    ):
        pass
    with run_lock(tmp_path):
        pass


def test_stale_partial_files_are_swept(tmp_path):
    (tmp_path / "step_1.pt.tmp").write_bytes(b"x")
    Checkpoints(tmp_path).save({"step": 1}, 1)
    assert not list(tmp_path.glob("*.tmp"))


def test_the_manifest_names_latest_and_best(tmp_path):
    Checkpoints(tmp_path).save({"step": 7}, 7, 0.5)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["latest"] == manifest["best"] == "step_00000007.pt"


def test_a_checkpoint_of_the_first_format_is_still_read():
    # The file is never written anew: later versions of the format must still load it.
    state = load_checkpoint(ROOT / "tests/golden/checkpoint_format_1.pt")
    method = methods.find("cyclegan")(
        from_yaml(state["options"], "golden").method, {"a": 3, "b": 3}
    )
    method.load_state_dict(state["method"])
    assert state["step"] == 2 and state["ema"] is None
    assert state["options"].startswith("seed: 0") and len(state["optimizers"]) == 2


@pytest.mark.parametrize("when", [1, 3, 6])
def test_what_interrupts_a_write_is_not_taken_for_a_full_disk(tmp_path, when):
    class Interrupted:
        def __init__(self, file):
            self.file, self.calls = file, 0

        def write(self, content):
            self.calls += 1
            if self.calls == when:
                raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
            return self.file.write(content)

        def flush(self):
            self.file.flush()

    with pytest.raises(RuntimeError, match="DataLoader worker"):
        write_atomically(
            tmp_path / "x", lambda file: torch.save({"x": torch.zeros(9)}, Interrupted(file))
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../other/step_1.pt", "/etc/passwd", "notes.txt"])
def test_a_manifest_that_names_files_elsewhere_is_not_believed(tmp_path, name, capsys):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save({"step": 1}, 1)
    path = tmp_path / "checkpoints/manifest.json"
    content = json.loads(path.read_text())
    content["files"][name] = content["files"]["step_00000001.pt"] | {"step": 9}
    path.write_text(json.dumps(content))
    assert checkpoints.load_latest()["step"] == 1
    assert "manifest.json is lost or damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [None, "", "{", '{"files": 3}', '{"files": {"step_00000002.pt": {}}}']
)
def test_without_its_manifest_a_run_goes_on_from_what_is_whole_and_loses_nothing(
    tmp_path, content, capsys
):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, keep=2)
    for step in (1, 2, 3):
        checkpoints.save({"step": step, "x": torch.full((999,), step)}, step, score=1.0)
    damaged = bytearray((folder / "step_00000003.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "step_00000003.pt").write_bytes(damaged)
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_text(content)
    assert checkpoints.exist()
    assert checkpoints.load_latest()["step"] == 2  # by the checksums inside, 3 is damaged
    notes = capsys.readouterr().err
    assert "is lost or damaged" in notes and "step_00000003.pt" in notes
    checkpoints.save({"step": 4}, 4)
    assert checkpoints.load_latest()["step"] == 4
    assert sorted(path.name for path in folder.glob("*.pt")) == [
        "step_00000003.pt",
        "step_00000004.pt",
    ]
