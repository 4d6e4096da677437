"""How much faster several processes are than one, what their talking costs, and what a model on paper says.

    python benchmarks/distributed_scaling.py [--processes 1,2] [--size 64] [--channels 16] [--json]
    python benchmarks/distributed_scaling.py --paper

Every process computes its own batch of noise (weak scaling). `talking` is the time of averaging a
step's gradients when all have arrived, as a share of the step; waiting for a slower process is not
in it. Paper: see `predicted`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from models.networks.generators.generator_config import GeneratorConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from common.command import run_command
from engine.config import TrainingConfig
from engine.distributed.context import DistributedContext
from engine.hardware.device import RuntimeConfig
from engine.runtime import Runtime
from engine.schedule import make_schedule
from engine.train_step import TrainStep
from models import methods
from models.networks.discriminators.patch_discriminator import PatchDiscriminator

WARM_UP = 2
GRADIENTS = 4 * 28_285_832  # bytes in float32: CycleGAN as published
# name -> (processes, bytes/s of the narrowest place in the rings together, seconds a message takes);
# eight GPUs of a node run as many rings as it has adapters. Assumed, not measured.
MACHINES = {
    "8 GPUs, NVLink": (8, 300e9, 10e-6),
    "8 nodes of 1 GPU, 200 Gbit/s": (8, 22e9, 15e-6),
    "8 nodes of 1 GPU, 10 Gbit/s": (8, 1.1e9, 50e-6),
    "8 nodes of 8 GPUs, 8 x 200 Gbit/s": (64, 8 * 22e9, 15e-6),
}


def predicted(step: float, processes: int, link: float, latency: float, size: int) -> float:
    """Return the share of one process's speed that each of several keeps, 0 to 1.

    A ring sends 2 (N - 1) / N of `size` bytes through every link (Patarasu & Yuan 2009, Sec. 4) in
    2 (N - 1) messages, once for each of five buckets of gradients and two of losses; nothing overlaps
    with the step's `step` seconds.
    """
    rounds = 2 * (processes - 1)
    return step / (step + rounds / processes * size / link + 7 * rounds * latency)


def paper() -> None:
    """Print the model's numbers: measured is the step of one GPU alone, assumed are the links."""
    for what, step in (("bf16, batch 1 a process", 0.0462), ("the same, steps of 0.2 s", 0.2)):
        print(f"{what}: {step * 1000:.1f} ms alone")
        for name, (count, link, latency) in MACHINES.items():
            shares = [predicted(step, count, link, latency, GRADIENTS // part) for part in (1, 2)]
            speeds = "  ".join(f"{share:6.1%}" for share in shares)
            print(
                f"  {name:<36} {count * shares[0]:5.1f} times one; kept: {speeds} (bf16 gradients)"
            )


def work(known: argparse.Namespace) -> None:
    """Take steps as one of the processes; the first prints what it found."""
    with DistributedContext.from_env() as distributed:
        config = RuntimeConfig(
            device=known.device, threads=known.threads, gradient_compression=known.compression
        )
        distributed.init_process_group(config)
        torch.manual_seed(0)
        kind = methods.find("cyclegan")
        networks = {
            "generator": GeneratorConfig(channels=known.channels, blocks=known.blocks),
            "discriminator": PatchDiscriminator.Config(channels=known.channels),
        }
        method = kind(kind.Config(**networks), {"a": 3, "b": 3})  # pyright: ignore[reportCallIssue]
        training = TrainingConfig(batch_size=known.batch * distributed.world_size)
        schedule = make_schedule("1000000 steps", "50%", training.batch_size, 1)
        train_step = TrainStep(method, training, schedule, Runtime(config, distributed))
        shape = (known.batch, 3, known.size, known.size)
        batch = {domain: torch.randint(0, 256, shape).byte() for domain in "ab"}
        steps, talks = [], []
        for number in range(WARM_UP + known.steps):
            distributed.all_reduce_max(0)
            began = time.perf_counter()
            float(next(iter(train_step.take_step(batch).values())))
            steps.append(time.perf_counter() - began)
            talks.append(communication_seconds(train_step))
            if number < WARM_UP:
                steps, talks = [], []
        seconds, talking = statistics.median(steps), statistics.median(talks)
        row = {
            "processes": distributed.world_size, "seconds": round(seconds, 4),
            "images_per_second": round(training.batch_size / seconds, 2),
            "talking": round(talking / seconds, 4), "talking_seconds": round(talking, 4),
            "megabytes": round(sum(4 * p.numel() for p in method.parameters()) / 1e6, 1),
            "size": known.size, "batch": training.batch_size, "compression": known.compression,
            **train_step.runtime.describe(),
        }  # fmt: skip
        print(json.dumps(row), flush=True)


def communication_seconds(train_step: TrainStep) -> float:
    """Return how long it takes to average every player's gradients once, when all are there."""
    runtime = train_step.runtime
    runtime.distributed.all_reduce_max(0)
    began = time.perf_counter()
    for player in train_step.optimizer_groups.values():
        losses = runtime.average_gradients(list(player.parameters()), {"x": torch.zeros(())})
        float(losses["x"])
    return time.perf_counter() - began


def main(arguments: list[str]) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="scaling.py", description=__doc__)
    parser.add_argument("--processes", default="1,2", help="numbers to compare, with commas")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1, help="images a process")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compression", choices=("none", "bf16"), default="none")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--paper", action="store_true", help="the model's numbers, nothing measured"
    )
    known = parser.parse_args(arguments)
    if known.paper:
        paper()
        return
    if "RANK" in os.environ:
        work(known)
        return
    alone = 0.0
    for count in map(int, known.processes.split(",")):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                   f"--nproc-per-node={count}", __file__, *arguments]  # fmt: skip
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        line = next(line for line in output.splitlines() if line.startswith("{"))
        row = json.loads(line)
        alone = alone or row["images_per_second"] / count
        row["kept"] = round(row["images_per_second"] / count / alone, 3)
        print(
            json.dumps(row) if known.json else
            f"{count} processes: {row['images_per_second']:.3g} images/s, {row['kept']:.0%} of one's "
            f"speed each; talking {row['talking']:.1%} of a step of {row['seconds']:.3g} s",
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    run_command(main)
