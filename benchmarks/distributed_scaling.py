"""Measure the weak scaling of training over several processes, and predict it for GPU clusters.

    python benchmarks/distributed_scaling.py [--processes 1,2] [--size 64] [--channels 16] [--json]
    python benchmarks/distributed_scaling.py --paper

Every process trains on its own batch of noise (weak scaling). `talking` is the communication time
as a share of the step: the time to average one step's gradients after all processes have reached
that point, without the wait for slower processes. `kept` is the speed of each process as a share of
the speed of one process that trains alone. `--paper` prints the predictions of
`predicted_efficiency`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from common.run_main import run_command
from engine.distributed.context import DistributedContext
from engine.hardware.device import RuntimeConfig
from engine.runtime import Runtime
from engine.schedule import make_schedule
from engine.train_config import TrainingConfig
from engine.train_step import TrainStep
from models import methods
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.generator_config import GeneratorConfig

WARM_UP = 2  # steps before the measurement
GRADIENT_BYTES = 4 * 28_285_832  # CycleGAN as published, in float32
# name -> (processes, bytes/s of the slowest link over all rings, seconds per message). A node with
# eight GPUs runs one ring for each of its network adapters. These values are assumed, not measured.
MACHINES = {
    "8 GPUs, NVLink": (8, 300e9, 10e-6),
    "8 nodes of 1 GPU, 200 Gbit/s": (8, 22e9, 15e-6),
    "8 nodes of 1 GPU, 10 Gbit/s": (8, 1.1e9, 50e-6),
    "8 nodes of 8 GPUs, 8 x 200 Gbit/s": (64, 8 * 22e9, 15e-6),
}


def predicted_efficiency(
    step: float, processes: int, link: float, latency: float, size: int
) -> float:
    """Return the speed of each of several processes as a share of one process alone, 0 to 1.

    A ring all-reduce sends 2 (N - 1) / N of `size` bytes through every link (Patarasu & Yuan 2009,
    Sec. 4) in 2 (N - 1) messages, once for each of five buckets of gradients and two of losses. The
    model assumes that communication does not overlap with the computation of `step` seconds.
    """
    rounds = 2 * (processes - 1)
    return step / (step + rounds / processes * size / link + 7 * rounds * latency)


def print_predictions() -> None:
    """Print the predicted scaling from the measured step of one GPU and assumed links."""
    for label, step in (("bf16, batch 1 per process", 0.0462), ("the same, steps of 0.2 s", 0.2)):
        print(f"{label}: {step * 1000:.1f} ms alone")
        for name, (count, link, latency) in MACHINES.items():
            shares = [
                predicted_efficiency(step, count, link, latency, GRADIENT_BYTES // part)
                for part in (1, 2)
            ]
            speeds = "  ".join(f"{share:6.1%}" for share in shares)
            print(
                f"  {name:<36} {count * shares[0]:5.1f} times one process; "
                f"efficiency: {speeds} (bf16 gradients)"
            )


def run_worker(args: argparse.Namespace) -> None:
    """Take training steps as one of the processes; the main process prints the measurement."""
    with DistributedContext.from_env() as distributed:
        config = RuntimeConfig(
            device=args.device, threads=args.threads, gradient_compression=args.compression
        )
        distributed.init_process_group(config)
        torch.manual_seed(0)
        method_class = methods.find("cyclegan")
        networks = {
            "generator": GeneratorConfig(channels=args.channels, blocks=args.blocks),
            "discriminator": PatchDiscriminator.Config(channels=args.channels),
        }
        method_config = method_class.Config(**networks)  # pyright: ignore[reportCallIssue]
        method = method_class(method_config, {"a": 3, "b": 3})
        training = TrainingConfig(batch_size=args.batch * distributed.world_size)
        schedule = make_schedule("1000000 steps", "50%", training.batch_size, 1)
        train_step = TrainStep(method, training, schedule, Runtime(config, distributed))
        shape = (args.batch, 3, args.size, args.size)
        batch = {domain: torch.randint(0, 256, shape).byte() for domain in "ab"}
        step_seconds, communication = [], []
        for number in range(WARM_UP + args.steps):
            distributed.all_reduce_max(0)
            began = time.perf_counter()
            float(next(iter(train_step.take_step(batch).values())))
            step_seconds.append(time.perf_counter() - began)
            communication.append(communication_seconds(train_step))
            if number < WARM_UP:
                step_seconds, communication = [], []
        seconds, talking = statistics.median(step_seconds), statistics.median(communication)
        row = {
            "processes": distributed.world_size, "seconds": round(seconds, 4),
            "images_per_second": round(training.batch_size / seconds, 2),
            "talking": round(talking / seconds, 4), "talking_seconds": round(talking, 4),
            "megabytes": round(sum(4 * p.numel() for p in method.parameters()) / 1e6, 1),
            "size": args.size, "batch": training.batch_size, "compression": args.compression,
            **train_step.runtime.describe(),
        }  # fmt: skip
        print(json.dumps(row), flush=True)


def communication_seconds(train_step: TrainStep) -> float:
    """Return the seconds to average the gradients of every optimizer group, after a barrier."""
    runtime = train_step.runtime
    runtime.distributed.all_reduce_max(0)
    began = time.perf_counter()
    for group in train_step.optimizer_groups.values():
        losses = runtime.average_gradients(list(group.parameters()), {"x": torch.zeros(())})
        float(losses["x"])
    return time.perf_counter() - began


def main(arguments: list[str]) -> None:
    """Parse the command line and run the benchmark."""
    parser = argparse.ArgumentParser(prog="distributed_scaling.py", description=__doc__)
    parser.add_argument(
        "--processes", default="1,2", help="numbers of processes to compare, separated by commas"
    )
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1, help="images per process")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compression", choices=("none", "bf16"), default="none")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--paper", action="store_true", help="print predictions and measure nothing"
    )
    args = parser.parse_args(arguments)
    if args.paper:
        print_predictions()
        return
    if "RANK" in os.environ:
        run_worker(args)
        return
    single_speed = 0.0
    for count in map(int, args.processes.split(",")):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                   f"--nproc-per-node={count}", __file__, *arguments]  # fmt: skip
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        line = next(line for line in output.splitlines() if line.startswith("{"))
        row = json.loads(line)
        single_speed = single_speed or row["images_per_second"] / count
        row["kept"] = round(row["images_per_second"] / count / single_speed, 3)
        print(
            json.dumps(row) if args.json else
            f"{count} processes: {row['images_per_second']:.3g} images/s, each at "
            f"{row['kept']:.0%} of the speed of one; communication is {row['talking']:.1%} of a "
            f"step of {row['seconds']:.3g} s",
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    run_command(main)
