"""Kill a training run again and again, and show that it ends as one that nobody touched.

    python -m reliability.kill_and_resume [--kills 40] [--steps 160] [--seed 0] [--keep FOLDER]

The real train.py on generated images, W&B offline; SIGKILL to its whole process group at random moments:
some while it starts, some right after a checkpoint appears (the next save or its clearing up), most
between steps. The same command follows each time, and at last it may end by itself. Compared with an
uninterrupted run: every tensor of the last checkpoint bit by bit, every line of metrics.jsonl, the W&B
run id. One line; exit code 1 where anything differs, or where the run ended before all kills were made.
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

from common.command import run_command
from common.errors import RunError
from data.scenes import generate
from engine.checkpoint import Checkpoints
from reliability.fuzz_checkpoints import same

ROOT = Path(__file__).resolve().parents[1]
OWN_TO_A_RUN = {"seconds", "options"}  # of a checkpoint; options.yaml names the folder
PATIENCE = 300.0  # seconds that a start may take on a busy machine


@dataclass(frozen=True)
class Pace:
    """What the uninterrupted run took, in seconds."""

    start: float  # to the first line of metrics.jsonl
    steps: float  # from there to the end


def command(folder: Path, name: str, steps: int) -> list[str]:
    """Return the command line of a run; repeated, it continues."""
    return [
        sys.executable, str(ROOT / "train.py"), "cyclegan", f"data.root={folder / 'season'}",
        f"run={folder / name}", f"duration={steps} steps", "checkpoint_every=4", "log.every=1",
        "log.previews_every=0", "log.wandb=offline", "method.generator.channels=4",
        "method.generator.blocks=1",
        "method.discriminator.channels=4", "method.discriminator.layers=1", "method.pool_size=3",
        "batch_size=2",
        "ema_half_life=8", "data.load_size=20", "data.crop_size=16", "data.workers=1", "validation_images=2",
        "runtime.device=cpu", "runtime.threads=1",
    ]  # fmt: skip


def started(words: list[str], output: Path) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own."""
    with open(output, "wb") as file:
        return subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], most: float) -> bool:
    """Wait for something; False where the process ends first, or the time does."""
    end = time.monotonic() + most
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def version(path: Path) -> tuple[int, int]:
    """Return what changes when a file is replaced or written to."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def uninterrupted(folder: Path, steps: int) -> Pace:
    """Make the run that nobody touches, and return its pace."""
    words, run = command(folder, "calm", steps), folder / "calm"
    began = time.monotonic()
    process = started(words, folder / "calm.txt")
    wait_until(lambda: version(run / "metrics.jsonl")[1] > 0, process, PATIENCE)
    first = time.monotonic()
    if process.wait():
        raise RunError(f"train.py ended with {process.returncode}: {tail(folder / 'calm.txt')}")
    return Pace(first - began, time.monotonic() - first)


def tail(path: Path) -> str:
    """Return the last line of a file."""
    return (path.read_text(errors="replace").strip().splitlines() or [""])[-1]


def kill_once(folder: Path, steps: int, pace: Pace, share: float, draw: random.Random) -> str:
    """Start the run, kill it at a random moment; return which kind of moment it was, or `ended`."""
    run, output = folder / "storm", folder / "storm.txt"
    rows, manifest = run / "metrics.jsonl", run / "checkpoints/manifest.json"
    row, save = version(rows), version(manifest)
    process = started(command(folder, "storm", steps), output)
    moment = draw.choices(("starting", "saving", "training"), (25, 30, 45))[0]
    if moment == "starting":
        wait_until(lambda: False, process, draw.uniform(0, pace.start))
    elif moment == "saving":
        wait_until(lambda: version(manifest) > save, process, PATIENCE)
        wait_until(lambda: False, process, draw.uniform(0, 0.1))
    else:
        # Opening the run writes the file anew, without the lines that will come again.
        wait_until(
            lambda: version(rows)[0] > row[0] and tail_step(rows) is not None, process, PATIENCE
        )
        wait_until(lambda: False, process, draw.uniform(0, share * pace.steps))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    if code not in (0, -signal.SIGKILL):
        raise RunError(f"a run that continues ended with {code}: {tail(output)}")
    return moment if code else "ended"


def tail_step(rows: Path) -> int | None:
    """Return the step of the last whole line."""
    try:
        return json.loads(rows.read_bytes().splitlines()[-1])["step"]
    except (OSError, ValueError, IndexError):
        return None


def differences(folder: Path) -> list[str]:
    """Compare the stormy run with the calm one; return what differs."""
    found = []
    states = [final_state(folder / name) for name in ("calm", "storm")]
    found += [
        f"checkpoint: {key}"
        for key in sorted(states[0].keys() | states[1].keys())
        if not same(states[0].get(key), states[1].get(key))
    ]
    calm, stormy = (metrics(folder / name) for name in ("calm", "storm"))
    if calm != stormy:
        steps = Counter(row["step"] for row in stormy)
        twice = [step for step, count in steps.items() if count > 1]
        found.append(f"metrics.jsonl: {len(stormy)} lines for {len(calm)}, twice: {twice[:5]}")
    ids = {
        p.stem.removeprefix("run-") for p in (folder / "storm/wandb").glob("offline-run-*/*.wandb")
    }
    if ids != {(folder / "storm/wandb_id").read_text().strip()}:
        found.append(f"W&B run ids: {sorted(ids)}")
    return found


def final_state(run: Path) -> dict[str, Any]:
    """Return the last checkpoint without what is a run's own."""
    state = Checkpoints(run / "checkpoints").load_latest()
    return {name: value for name, value in state.items() if name not in OWN_TO_A_RUN}


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl without the clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def storm(folder: Path, kills: int, steps: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Run both; return how often which moment was hit, and what differs."""
    generate("season", folder / "season", train=8, test=2, size=16)
    draw, moments = random.Random(seed), Counter()
    pace = uninterrupted(folder, steps)
    for _ in range(kills):
        moments[kill_once(folder, steps, pace, 1 / max(kills, 2), draw)] += 1
        if moments["ended"]:
            break
    process = started(command(folder, "storm", steps), folder / "storm.txt")
    if process.wait():
        raise RunError(
            f"the last run ended with {process.returncode}: {tail(folder / 'storm.txt')}"
        )
    return moments, differences(folder)


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return 1 where the runs differ."""
    parser = argparse.ArgumentParser(
        prog="storm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where the runs stay; default: nowhere, if equal")
    known = parser.parse_args(arguments)
    folder = (known.keep or Path(tempfile.mkdtemp(prefix="storm_"))).resolve()
    began = time.monotonic()
    moments, different = storm(folder, known.kills, known.steps, known.seed)
    killed = sum(moments.values()) - moments["ended"]
    hits = ", ".join(
        f"{count} while {name}" for name, count in sorted(moments.items()) if name != "ended"
    )
    if moments["ended"]:
        different.append("the run ended too early; raise --steps")
    verdict = "; ".join(different) or "equal bit by bit to the uninterrupted run"
    print(
        f"storm: {killed} kills of {known.kills} ({hits}), {known.steps} steps, "
        f"{time.monotonic() - began:.0f} s: {verdict}"
    )
    if different:
        print(f"both runs are in {folder}")
    elif not known.keep:
        shutil.rmtree(folder)
    return bool(different)


if __name__ == "__main__":
    run_command(main)
