"""Measure the peak memory of training by size, batch, precision and activation checkpointing.

    python benchmarks/memory.py [--reference PATH] [--sizes 128,256] [--batches 1] [--json]

Each row comes from its own process, which takes two steps. `peak_gib` is the largest resident set
on a CPU, including libraries, and the largest allocation on CUDA. `steps_gib` is the memory for the
steps alone: on a CPU the growth of the resident set during the steps plus the weights, on CUDA
`peak_gib`.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.reference_step import ReferenceStep
from benchmarks.step import build_train_step, noise_batch
from benchmarks.timing import select_variants
from common.errors import RunError
from common.run_main import run_command
from data.tensors import normalize
from engine.runtime import RuntimeConfig

REFERENCE_WEIGHTS = 28_285_832  # parameters of the reference's networks
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
    """Return the peak memory of this process over two steps and the steps' share of it, in GiB.

    Call it once per process: the peak never decreases.
    """
    images = noise_batch(size, batch)
    if name == "reference":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        step = ReferenceStep(Path(reference), device)
        a, b = (normalize(images[domain].to(device)) for domain in "ab")
        before, weights = _resident_bytes(), REFERENCE_WEIGHTS
        step.take_steps(a, b, 2)
    else:
        train_step = build_train_step(ROWS[name], batch, channels, 9)
        device, before = train_step.runtime.device, _resident_bytes()
        weights = sum(p.numel() for p in train_step.method.parameters())
        for _ in range(2):
            train_step.take_step(images)
    if device.type == "cuda":
        allocated = torch.cuda.max_memory_allocated() / 2**30
        return allocated, allocated
    # Subtract the memory used before the steps, but count the weights, which it included.
    return _resident_bytes() / 2**30, (_resident_bytes() - before + 4 * weights) / 2**30


def _resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: list[str]) -> None:
    """Parse the command line and run the benchmark."""
    parser = argparse.ArgumentParser(prog="memory.py", description=__doc__)
    parser.add_argument("--reference", default="")
    parser.add_argument("--sizes", default="128,256")
    parser.add_argument("--batches", default="1")
    parser.add_argument(
        "--channels", type=int, default=64, help="of our networks; the reference has 64"
    )
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "SIZE", "BATCH"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.one:
        name, size, batch = args.one
        print(*measure(name, int(size), int(batch), args.reference, args.channels))
        return
    for size in args.sizes.split(","):
        for batch in args.batches.split(","):
            for name in select_variants("--rows", args.rows, ROWS):
                if name == "reference" and not args.reference:
                    continue
                words = ["--one", name, size, batch, "--reference", args.reference,
                         "--channels", str(args.channels)]  # fmt: skip
                done = subprocess.run(
                    [sys.executable, __file__, *words], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise RunError(
                        f"{name} at size {size} failed: {done.stderr.strip().splitlines()[-1]}"
                    )
                peak, steps = (round(float(x), 2) for x in done.stdout.split()[-2:])
                row = {
                    "precision": name, "size": int(size), "batch": int(batch), "peak_gib": peak,
                    "steps_gib": steps,
                }  # fmt: skip
                text = f"{name:<28}{size:>6}{batch:>4}{peak:>8} GiB, of which the steps use {steps}"
                print(json.dumps(row) if args.json else text, flush=True)


if __name__ == "__main__":
    run_command(main)
