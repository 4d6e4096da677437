"""Kill a training run repeatedly and check that it ends like an uninterrupted run.

    python -m reliability.kill_and_resume [--kills 40] [--steps 160] [--seed 0] [--keep FOLDER]

The run is train.py on generated images with W&B offline. Its process group receives SIGKILL at
random moments: some while it starts, some right after a checkpoint appears (while it saves or
removes old files), most between steps. The same command starts it again each time, and the last
start runs to the end. Then every tensor of the last checkpoint (bit by bit), every line of
metrics.jsonl and the W&B run id are compared with an uninterrupted run. The program prints one
line. The exit code is 1 if anything differs, or if the run ended before all kills.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import RunError
from common.run_main import run_command
from data.scenes import generate
from engine.checkpoint import Checkpoints
from reliability.fuzz_checkpoints import equal_states

ROOT = Path(__file__).resolve().parents[1]
IGNORED_KEYS = {"seconds", "options"}  # differ between equal runs; options contain the folder
START_TIMEOUT = 300.0  # seconds; a start may be slow on a busy machine


@dataclass(frozen=True)
class Duration:
    """The duration of the uninterrupted run, in seconds."""

    start: float  # to the first line of metrics.jsonl
    steps: float  # from there to the end


def command(folder: Path, name: str, steps: int) -> list[str]:
    """Return the command line that starts or resumes a run."""
    return [
        sys.executable, str(ROOT / "train.py"), "cyclegan", f"data.root={folder / 'season'}",
        f"run={folder / name}", f"duration={steps} steps", "checkpoint_every=4", "log.every=1",
        "log.previews_every=0", "log.wandb=offline", "method.generator.channels=4",
        "method.generator.blocks=1",
        "method.discriminator.channels=4", "method.discriminator.layers=1", "method.pool_size=3",
        "batch_size=2",
        "ema_half_life=8", "data.load_size=20", "data.crop_size=16", "data.workers=1",
        "validation_images=2", "runtime.device=cpu", "runtime.threads=1",
    ]  # fmt: skip


def start_process(words: list[str], output: Path) -> subprocess.Popen[bytes]:
    """Start a run in its own process group."""
    with open(output, "wb") as file:
        return subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Wait until `ready`; return False if the process ends or `timeout` seconds pass first."""
    end = time.monotonic() + timeout
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def file_version(path: Path) -> tuple[int, int]:
    """Return the modification time and size of a file; they change when it is written."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def run_uninterrupted(folder: Path, steps: int) -> Duration:
    """Run training without interruption, and return its duration."""
    words, run = command(folder, "uninterrupted", steps), folder / "uninterrupted"
    began = time.monotonic()
    process = start_process(words, folder / "uninterrupted.txt")
    wait_until(lambda: file_version(run / "metrics.jsonl")[1] > 0, process, START_TIMEOUT)
    first = time.monotonic()
    if process.wait():
        message = last_line(folder / "uninterrupted.txt")
        raise RunError(f"train.py ended with exit code {process.returncode}: {message}")
    return Duration(first - began, time.monotonic() - first)


def last_line(path: Path) -> str:
    """Return the last line of a file."""
    return (path.read_text(errors="replace").strip().splitlines() or [""])[-1]


def kill_once(
    folder: Path, steps: int, duration: Duration, fraction: float, draw: random.Random
) -> str:
    """Start the run and kill it at a random moment; return the kind of moment, or `ended`."""
    run, output = folder / "killed", folder / "killed.txt"
    rows, manifest = run / "metrics.jsonl", run / "checkpoints/manifest.json"
    old_rows, old_manifest = file_version(rows), file_version(manifest)
    process = start_process(command(folder, "killed", steps), output)
    moment = draw.choices(("starting", "saving", "training"), (25, 30, 45))[0]
    if moment == "starting":
        wait_until(lambda: False, process, draw.uniform(0, duration.start))
    elif moment == "saving":
        wait_until(lambda: file_version(manifest) > old_manifest, process, START_TIMEOUT)
        wait_until(lambda: False, process, draw.uniform(0, 0.1))
    else:
        # A resumed run first rewrites this file without the lines of the steps that it repeats.
        wait_until(
            lambda: file_version(rows)[0] > old_rows[0] and last_step(rows) is not None,
            process,
            START_TIMEOUT,
        )
        wait_until(lambda: False, process, draw.uniform(0, fraction * duration.steps))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    if code not in (0, -signal.SIGKILL):
        raise RunError(f"the resumed run ended with exit code {code}: {last_line(output)}")
    return moment if code else "ended"


def last_step(rows: Path) -> int | None:
    """Return the step of the last line, or None if there is no complete one."""
    try:
        return json.loads(rows.read_bytes().splitlines()[-1])["step"]
    except (OSError, ValueError, IndexError):
        return None


def differences(folder: Path) -> list[str]:
    """Compare the killed run with the uninterrupted one; return one text per difference."""
    states = [final_state(folder / name) for name in ("uninterrupted", "killed")]
    different = [
        f"checkpoint: {key}"
        for key in sorted(states[0].keys() | states[1].keys())
        if not equal_states(states[0].get(key), states[1].get(key))
    ]
    uninterrupted, killed = (metrics(folder / name) for name in ("uninterrupted", "killed"))
    if uninterrupted != killed:
        steps = Counter(row["step"] for row in killed)
        repeated = [step for step, count in steps.items() if count > 1]
        different.append(
            f"metrics.jsonl: {len(killed)} lines, not {len(uninterrupted)}; "
            f"repeated steps: {repeated[:5]}"
        )
    ids = {
        p.stem.removeprefix("run-") for p in (folder / "killed/wandb").glob("offline-run-*/*.wandb")
    }
    if ids != {(folder / "killed/wandb_id").read_text().strip()}:
        different.append(f"W&B run ids: {sorted(ids)}")
    return different


def final_state(run: Path) -> dict[str, Any]:
    """Return the last checkpoint without the values that differ between equal runs."""
    state = Checkpoints(run / "checkpoints").load_latest()
    return {name: value for name, value in state.items() if name not in IGNORED_KEYS}


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl without `seconds`."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def kill_and_compare(
    folder: Path, kills: int, steps: int, seed: int
) -> tuple[Counter[str], list[str]]:
    """Run both; return the number of kills by kind of moment, and the differences."""
    generate("season", folder / "season", train=8, test=2, size=16)
    draw, moments = random.Random(seed), Counter()
    duration = run_uninterrupted(folder, steps)
    for _ in range(kills):
        moments[kill_once(folder, steps, duration, 1 / max(kills, 2), draw)] += 1
        if moments["ended"]:
            break
    process = start_process(command(folder, "killed", steps), folder / "killed.txt")
    if process.wait():
        message = last_line(folder / "killed.txt")
        raise RunError(f"the last run ended with exit code {process.returncode}: {message}")
    return moments, differences(folder)


def main(arguments: list[str]) -> int:
    """Parse the command line and run; return 1 if the runs differ."""
    parser = argparse.ArgumentParser(
        prog="kill_and_resume",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", type=Path, help="folder in which the runs stay; default: a temporary one"
    )
    args = parser.parse_args(arguments)
    folder = (args.keep or Path(tempfile.mkdtemp(prefix="kill_and_resume_"))).resolve()
    began = time.monotonic()
    moments, different = kill_and_compare(folder, args.kills, args.steps, args.seed)
    killed = sum(moments.values()) - moments["ended"]
    counts = ", ".join(
        f"{count} while {name}" for name, count in sorted(moments.items()) if name != "ended"
    )
    if moments["ended"]:
        different.append("the run ended before all kills; increase --steps")
    verdict = "; ".join(different) or "bit-identical to the uninterrupted run"
    print(
        f"kill_and_resume: {killed} kills of {args.kills} ({counts}), {args.steps} steps, "
        f"{time.monotonic() - began:.0f} s: {verdict}"
    )
    if different:
        print(f"both runs are in {folder}")
    elif not args.keep:
        shutil.rmtree(folder)
    return bool(different)


if __name__ == "__main__":
    run_command(main)
