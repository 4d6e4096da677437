"""Measure the peak memory of training by size, batch, precision and checkpointing.

    python benchmarks/memory.py [--reference PATH] [--sizes 128,256] [--batches 1] [--json]

Each row is a process of its own that takes two steps. `peak_gib` is on a CPU the largest resident set,
libraries and all, on CUDA the largest allocation. `steps_gib` leaves out what a CPU held before: what
the resident set grew by in the steps, and the weights.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.reference_repository import ReferenceStep
from benchmarks.step import images, train_step_for
from benchmarks.timing import chosen
from common.command import run_command
from common.errors import RunError
from data.tensors import normalize
from engine.runtime import RuntimeConfig

PUBLISHED = 28_285_832  # weights of the reference's networks
ROWS = {
    "reference": RuntimeConfig(),
    "fp32": RuntimeConfig(precision="fp32"),
    "fp32 checkpointed": RuntimeConfig(precision="fp32", activation_checkpointing=True),
    "bf16": RuntimeConfig(precision="bf16"),
    "bf16 checkpointed": RuntimeConfig(precision="bf16", activation_checkpointing=True),
    "bf16 compiled": RuntimeConfig(precision="bf16", compile="regions"),
    "bf16 compiled checkpointed": RuntimeConfig(
        precision="bf16", compile="regions", activation_checkpointing=True
    ),
}


def measure(name: str, size: int, batch: int, reference: str, channels: int) -> tuple[float, float]:
    """Return the peak of this process over two steps, and their part of it, in GiB; once a process."""
    batch_of = images(size, batch)
    if name == "reference":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        theirs = ReferenceStep(Path(reference), device)
        a, b = (normalize(batch_of[domain].to(device)) for domain in "ab")
        before, weights = _resident(), PUBLISHED
        theirs.steps(a, b, 2)
    else:
        train_step = train_step_for(ROWS[name], batch, channels, 9)
        device, before = train_step.runtime.device, _resident()
        weights = sum(p.numel() for p in train_step.method.parameters())
        for _ in range(2):
            train_step.take_step(batch_of)
    if device.type == "cuda":
        allocated = torch.cuda.max_memory_allocated() / 2**30
        return allocated, allocated
    # Weights were there before, imports too: subtract what is not of the step, add the weights back.
    return _resident() / 2**30, (_resident() - before + 4 * weights) / 2**30


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: list[str]) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="memory.py", description=__doc__)
    parser.add_argument("--reference", default="")
    parser.add_argument("--sizes", default="128,256")
    parser.add_argument("--batches", default="1")
    parser.add_argument("--channels", type=int, default=64, help="of ours; the reference has 64")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "SIZE", "BATCH"), help=argparse.SUPPRESS)
    known = parser.parse_args(arguments)
    if known.one:
        name, size, batch = known.one
        print(*measure(name, int(size), int(batch), known.reference, known.channels))
        return
    for size in known.sizes.split(","):
        for batch in known.batches.split(","):
            for name in chosen("--rows", known.rows, ROWS):
                if name == "reference" and not known.reference:
                    continue
                words = ["--one", name, size, batch, "--reference", known.reference,
                         "--channels", str(known.channels)]  # fmt: skip
                done = subprocess.run(
                    [sys.executable, __file__, *words], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise RunError(f"{name} at {size}: {done.stderr.strip().splitlines()[-1]}")
                peak, steps = (round(float(x), 2) for x in done.stdout.split()[-2:])
                row = {
                    "precision": name, "size": int(size), "batch": int(batch), "peak_gib": peak,
                    "steps_gib": steps,
                }  # fmt: skip
                text = f"{name:<28}{size:>6}{batch:>4}{peak:>8} GiB, {steps} of them for the steps"
                print(json.dumps(row) if known.json else text, flush=True)


if __name__ == "__main__":
    run_command(main)
