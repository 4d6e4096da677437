"""Measure the time from a command to its help and to its first training step.

    python benchmarks/startup.py [--json] [--rounds 3] [--plain]

This measures `import torch`, train.py --help, the first step of `demo` (its first line in
metrics.jsonl), and the first step of a compiled run, with new kernels and with kernels from the
compiler's cache. They run in alternation, and the median is reported. The first two run once before
the measurement, so that files are in the file cache and modules have bytecode.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.run_main import run_command
from data.scenes import generate

ROOT = Path(__file__).resolve().parents[1]


def process_seconds(*words: str) -> float:
    """Return the seconds that a Python process takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return time.perf_counter() - started


def first_step(folder: Path, name: str, *settings: str, cache: str = "") -> float:
    """Return the seconds from the start of train.py to its first logged step."""
    run = folder / name
    words = [str(ROOT / "train.py"), "demo", f"data.root={folder / 'season'}", f"run={run}",
             "log.wandb=disabled", *settings]  # fmt: skip
    environment = {**os.environ, **({"TORCHINDUCTOR_CACHE_DIR": cache} if cache else {})}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, env=environment)
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    process.kill()
    process.wait()
    return seconds


def main(arguments: list[str]) -> None:
    """Parse the command line and run the benchmark."""
    parser = argparse.ArgumentParser(prog="startup.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plain", action="store_true", help="without the compiled runs")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate("season", folder / "season")
        compiled = ("runtime.compile=regions", "runtime.precision=bf16")
        actions: dict[str, Callable[[int], float]] = {
            "import torch": lambda n: process_seconds("-c", "import torch"),
            "train.py demo --help": lambda n: process_seconds(
                str(ROOT / "train.py"), "demo", "--help"
            ),
            "demo, first step": lambda n: first_step(folder, f"plain{n}"),
            "compiled demo, first step, new": lambda n: first_step(
                folder, f"new{n}", *compiled, cache=str(folder / f"cache{n}")
            ),
            "compiled demo, first step, again": lambda n: first_step(
                folder, f"again{n}", *compiled, cache=str(folder / f"cache{n}")
            ),
        }
        if args.plain:
            actions = {
                label: action for label, action in actions.items() if "compiled" not in label
            }
        for label in list(actions)[:2]:
            actions[label](-1)
        times: dict[str, list[float]] = {label: [] for label in actions}
        for number in range(args.rounds):
            for label, action in actions.items():
                times[label].append(action(number))
    for label, values in times.items():
        row = {"what": label, "seconds": round(statistics.median(values), 2),
               "spread": round(max(values) - min(values), 2)}  # fmt: skip
        print(json.dumps(row) if args.json else f"{label:<34}{row['seconds']:>8} s")


if __name__ == "__main__":
    run_command(main)
