"""Measure everything that needs a CUDA device, in one command and under nine minutes.

    python benchmarks/gpu.py [--reference PATH] [--size 256]

Runs the tests marked `gpu`, then the training step at batch 1 and 8, the peak memory, and the
translation of pictures, each in a process of its own, and prints their rows as one table. What fails
or takes too long is said in its place, and the rest goes on; the exit code is 1 then.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from common.command import run_command
from common.errors import RunError, UserError

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 520  # for all parts together


def parts(reference: str, size: int) -> dict[str, list[str]]:
    """Return what is run: a title and the command behind it, the most important first."""
    theirs = ["--reference", reference] if reference else []
    step = ["benchmarks/step.py", "--json", "--rounds", "5", "--size", str(size), *theirs]
    memory = ["benchmarks/memory.py", "--json", "--sizes", str(size), *theirs]
    return {
        "tests": ["-m", "pytest", "tests", "-m", "gpu", "-p", "no:cacheprovider"],
        "step, batch 1": [*step, "--batch", "1"],
        # All variants at once would not fit beside two references.
        "step, batch 8": [
            *step, "--batch", "8", "--only-time", "--variants",
            "bf16 compiled graph,bf16 networks graph",
        ],
        "memory, batch 1": [*memory, "--batches", "1"],
        "memory, batch 8": [*memory, "--batches", "8", "--rows", "reference,bf16 compiled"],
        "inference": ["benchmarks/inference.py", "--json", "--sizes", "256,512,1024,2048"],
    }  # fmt: skip


def line(row: dict[str, object]) -> str:
    """Return the figures of a row that a reader looks for, in one line."""
    shown = ("seconds", "ratio", "share_of_peak", "peak_gib", "images_per_second", "size", "batch")
    figures = "  ".join(f"{name} {row[name]}" for name in shown if row.get(name) is not None)
    return f"  {row.get('precision', ''):<30}{figures}" if figures else f"  {json.dumps(row)}"


def main(arguments: list[str]) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="gpu.py", description=__doc__)
    parser.add_argument("--reference", default="", help="a checkout to time beside ours")
    parser.add_argument("--size", type=int, default=256)
    known = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise UserError("gpu.py needs a CUDA device; benchmarks/step.py measures a CPU")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    began, failed = time.monotonic(), []
    for title, words in parts(known.reference, known.size).items():
        print(title, flush=True)
        left = SECONDS - (time.monotonic() - began)
        try:
            done = subprocess.run(
                [sys.executable, *words], cwd=ROOT, capture_output=True, text=True,
                timeout=max(left, 1), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            failed.append(title)
            print("  no time was left")
            continue
        rows = [row for row in done.stdout.splitlines() if row.startswith("{")]
        for row in rows:
            print(line(json.loads(row)), flush=True)
        if done.returncode:
            failed.append(title)
        if done.returncode or not rows:
            print("  " + "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-8:]))
    if failed:
        raise RunError(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    run_command(main)
