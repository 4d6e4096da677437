"""Run all tests and benchmarks that need a CUDA device, in one command and under nine minutes.

    python benchmarks/gpu.py [--reference PATH] [--size 256]

The command runs the tests marked `gpu`, then the benchmarks of the training step at batch 1 and 8,
of peak memory, and of translation, each in its own process, and prints their rows as one table. If
a part fails or runs out of time, the output reports it and the next part starts; the exit code is
then 1.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from common.errors import RunError, UserError
from common.run_main import run_command

ROOT = Path(__file__).resolve().parents[1]
TIME_LIMIT = 520  # seconds for all parts together


def parts(reference: str, size: int) -> dict[str, list[str]]:
    """Return title -> arguments of python for every part, the most important first."""
    theirs = ["--reference", reference] if reference else []
    step = ["benchmarks/step.py", "--json", "--rounds", "5", "--size", str(size), *theirs]
    memory = ["benchmarks/memory.py", "--json", "--sizes", str(size), *theirs]
    return {
        "tests": ["-m", "pytest", "tests", "-m", "gpu", "-p", "no:cacheprovider"],
        "step, batch 1": [*step, "--batch", "1"],
        # All variants together with two references would not fit in memory.
        "step, batch 8": [
            *step, "--batch", "8", "--only-time", "--variants",
            "bf16 compiled graph,bf16 networks graph",
        ],
        "memory, batch 1": [*memory, "--batches", "1"],
        "memory, batch 8": [*memory, "--batches", "8", "--rows", "reference,bf16 compiled"],
        "inference": ["benchmarks/inference.py", "--json", "--sizes", "256,512,1024,2048"],
    }  # fmt: skip


def format_row(row: dict[str, object]) -> str:
    """Return the most important values of a row as one line."""
    shown = ("seconds", "ratio", "share_of_peak", "peak_gib", "images_per_second", "size", "batch")
    values = "  ".join(f"{name} {row[name]}" for name in shown if row.get(name) is not None)
    return f"  {row.get('precision', ''):<30}{values}" if values else f"  {json.dumps(row)}"


def main(arguments: list[str]) -> None:
    """Parse the command line and run the benchmark."""
    parser = argparse.ArgumentParser(prog="gpu.py", description=__doc__)
    parser.add_argument(
        "--reference", default="", help="a checkout of the reference to time as well"
    )
    parser.add_argument("--size", type=int, default=256)
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise UserError("gpu.py needs a CUDA device; use benchmarks/step.py on a CPU")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    began, failed = time.monotonic(), []
    for title, words in parts(args.reference, args.size).items():
        print(title, flush=True)
        left = TIME_LIMIT - (time.monotonic() - began)
        try:
            done = subprocess.run(
                [sys.executable, *words], cwd=ROOT, capture_output=True, text=True,
                timeout=max(left, 1), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            failed.append(title)
            print("  stopped: the time limit was reached")
            continue
        rows = [row for row in done.stdout.splitlines() if row.startswith("{")]
        for row in rows:
            print(format_row(json.loads(row)), flush=True)
        if done.returncode:
            failed.append(title)
        if done.returncode or not rows:
            print("  " + "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-8:]))
    if failed:
        raise RunError(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    run_command(main)
