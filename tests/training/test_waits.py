"""Whatever a command waits for, a signal ends it within seconds, and a run saves itself."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import train
from common import run_main
from data.image_store.memory import MemoryStore
from engine.checkpoint import Checkpoints
from engine.tracking.background_calls import MAX_PENDING
from engine.tracking.wandb_config import LogConfig
from engine.tracking.wandb_run import WandbRun
from tests.conftest import ROOT, TINY, call
from training.loop import LAST_WAIT
from training.signals import StopRequested, StopSignals

MAX_SECONDS = 5.0


def words(photos, run, *more):
    return ["cyclegan", f"data.root={photos}", f"run={run}", "duration=100000 steps", "log.every=1",
            "checkpoint_every=1000000", "log.previews_every=0", *TINY, *more]  # fmt: skip


def seconds_until_end(script: str, *arguments: object, number: int = signal.SIGINT) -> tuple:
    """Signal a script once it has printed a line; return seconds, exit code and standard error."""
    # A shell starts programs in the background with Ctrl-C ignored, also those that run tests.
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", heard + script, *map(str, arguments)], text=True, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline()
    time.sleep(0.3)  # until it waits
    began = time.monotonic()
    process.send_signal(number)
    try:
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()
    return time.monotonic() - began, process.returncode, error


def measured(record_property, what: str, seconds: float) -> None:
    record_property("figure", f"{what} {seconds:.1f} s")
    assert seconds < MAX_SECONDS


def test_readers_that_are_stopped_do_not_stop_a_signal(photos, tmp_path, record_property):
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words(photos, run, "data.workers=2")],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for reader in map(int, children):
            os.kill(reader, signal.SIGSTOP)
        time.sleep(1)  # until the batches that they had read are used
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    measured(record_property, "stopped readers", time.monotonic() - began)
    assert process.returncode == 130 and "stopped and saved in" in out and err == ""
    assert children and not any(Path(f"/proc/{reader}").exists() for reader in children)
    assert Checkpoints(run / "checkpoints").load_latest()["step"] > 0


def test_a_signal_to_the_whole_group_saves_too(photos, tmp_path):
    # `timeout` and schedulers signal every process of a job, also the readers.
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words(photos, run, "data.workers=2")],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)  # timeout: its child, and then the group
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 143 and "stopped and saved in" in out and err == ""
    assert Checkpoints(run / "checkpoints").load_latest()["step"] > 0


def test_a_drive_that_hangs_does_not_stop_a_signal(
    photos, tmp_path, monkeypatch, capsys, record_property
):
    read_end, write_end = os.pipe()
    real, reads, sent = MemoryStore.pixels, [], []

    def hangs(self, domain, index):
        reads.append(index)
        if len(reads) > 12:

            def send():
                sent.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGTERM)

            threading.Timer(0.3, send).start()
            os.read(read_end, 1)
        return real(self, domain, index)

    monkeypatch.setattr(MemoryStore, "pixels", hangs)
    code, _ = call(train, *words(photos, tmp_path / "run", "batch_size=1"))
    measured(record_property, "read that hangs", time.monotonic() - sent[0])
    assert code == 143 and "stopped and saved in" in capsys.readouterr().out
    assert Checkpoints(tmp_path / "run" / "checkpoints").load_latest()["step"] == 6
    os.close(write_end)
    os.close(read_end)


def test_one_of_several_processes_waits_a_little_longer():
    assert LAST_WAIT < MAX_SECONDS
    began = time.monotonic()
    with StopSignals() as stop:
        with stop.end_wait(0.4):  # an image arrives in time: nothing is raised
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        with pytest.raises(StopRequested), stop.end_wait(0.4):
            time.sleep(20)
    assert stop.requested == signal.SIGTERM and time.monotonic() - began < 5


THREADS = """
import sys, time
from common.run_main import run_command
from common.threads import map_in_threads
def main(arguments):
    print("waits", flush=True)
    for _ in map_in_threads(lambda _: time.sleep(60), range(9), 2, 4): pass
run_command(main)
"""
FAILS = """
from common.errors import RunError
def fails(arguments):
    try: main(arguments)
    except ZeroDivisionError: raise RunError("broken") from None
run_command(fails)
"""
LIBRARY = """
import ctypes, sys, os, signal
from common.run_main import run_command
from training.signals import StopSignals
def main(arguments):
    lock, library = ctypes.create_string_buffer(256), ctypes.CDLL(None)
    library.pthread_mutex_lock(lock)
    print("waits", flush=True)
    if sys.argv[1] == "training":
        with StopSignals():
            os.kill(os.getpid(), signal.SIGUSR1)  # the first signal; the test sends the second
            library.pthread_mutex_lock(lock)
    library.pthread_mutex_lock(lock)
run_command(main)
"""
LOCK = """
import sys
from pathlib import Path
from common.run_main import run_command
from data.image_store.disk import _wait_for_lock
def main(arguments):
    with open(sys.argv[1], "w") as file: _wait_for_lock(file, Path(sys.argv[1]))
run_command(main)
"""
DOWNLOAD = """
import sys
from pathlib import Path
from common.run_main import run_command
from data.download import _transfer_with_retries
def main(arguments):
    print("waits", flush=True)
    _transfer_with_retries(sys.argv[1], Path(sys.argv[2]), (60.0,))
run_command(main)
"""
PLAN = """
import os, signal, sys, time, multiprocessing, threading
from common.run_main import run_command
from options.load import train_options
from training.cost_estimate import measure_in_subprocess
def stop():
    while not multiprocessing.active_children(): time.sleep(0.1)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGSTOP)
    print("waits", flush=True)
def main(arguments):
    threading.Thread(target=stop, daemon=True).start()
    measure_in_subprocess(train_options(["demo"]))
if __name__ == "__main__": run_command(main)
"""


def test_threads_that_read_a_hanging_drive_do_not_stop_ctrl_c(record_property):
    seconds, code, error = seconds_until_end(THREADS)
    measured(record_property, "threads", seconds)
    assert (code, error) == (130, "interrupted\n")


def test_an_error_does_not_wait_for_other_threads(record_property):
    script = THREADS.replace("time.sleep(60)", "1 / 0 if _ == 1 else time.sleep(20 * _)")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script.replace("run_command(main)", FAILS)], text=True, cwd=ROOT,
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    measured(record_property, "error beside threads", time.monotonic() - began)
    assert done.returncode == 1 and done.stderr == "error: broken\n"


@pytest.mark.parametrize("kind", ["command", "training"])
def test_a_wait_in_a_library_ends(kind, record_property):
    # In training it is the second signal that ends it: the first waits for the end of the step.
    seconds, code, error = seconds_until_end(LIBRARY, kind)
    measured(record_property, f"library ({kind})", seconds)
    assert (code, error) == (130, "interrupted\n" if kind == "command" else "")


def test_a_lock_of_another_process_does_not_stop_ctrl_c(tmp_path, record_property):
    with open(tmp_path / "images.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        seconds, code, error = seconds_until_end(LOCK, tmp_path / "images.lock")
    measured(record_property, "lock", seconds)
    assert (code, error) == (130, "interrupted\n")


def test_a_server_that_does_not_answer_does_not_stop_ctrl_c(tmp_path, record_property):
    from tests.engine.tracking.test_wandb_failures import stalling

    with stalling() as url:
        seconds, code, error = seconds_until_end(DOWNLOAD, url, tmp_path / "part")
    measured(record_property, "download", seconds)
    assert (code, error) == (130, "interrupted\n")


def test_a_plan_whose_subprocess_is_stopped_answers_ctrl_c(tmp_path, record_property):
    script = tmp_path / "plan.py"
    script.write_text(PLAN)
    start = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    seconds, code, error = seconds_until_end(start)
    measured(record_property, "plan=true", seconds)
    assert (code, error) == (130, "interrupted\n")


def test_a_server_that_stalls_at_the_end_does_not_delay_a_stopped_run(
    server, tmp_path, monkeypatch, capsys, record_property
):
    logger = WandbRun(LogConfig(wandb="online"), tmp_path, "abc", {"seed": 1})
    assert "online run abc" in logger.message
    logger.log({"loss": 1.0, "images": 1}, 1)
    finish = logger.run.finish
    monkeypatch.setattr(logger.run, "finish", lambda **_: time.sleep(60))
    began = time.monotonic()
    logger.finish(0, seconds=0.5)
    measured(record_property, "W&B's server at the end", time.monotonic() - began)
    finish()  # later tests of this process begin without a run
    assert f"wandb sync {tmp_path}/wandb/run-" in capsys.readouterr().out
    assert run_main._exits_at_once.is_set()  # the library would wait when the process exits
    run_main._exits_at_once.clear()


def test_a_wandb_process_that_does_not_answer_delays_no_step(tmp_path, capsys, record_property):
    class Stuck:
        dir = str(tmp_path / "run-abc" / "files")

        def log(self, *_, **__):
            time.sleep(60)

    logger = WandbRun(LogConfig(wandb="disabled"), tmp_path, "abc", {})
    logger.run = Stuck()
    began = time.monotonic()
    for step in range(2 * MAX_PENDING):
        logger.log({"loss": 1.0}, step)
    logger.finish(0, seconds=0.2)
    measured(record_property, "W&B's process", time.monotonic() - began)
    run_main._exits_at_once.clear()
    out = capsys.readouterr().out
    assert out.count("W&B stopped logging (its process does not answer)") == 1
    assert f"wandb sync {tmp_path / 'run-abc'}" in out
