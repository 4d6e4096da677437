"""Time the training step against the reference's and against the limit of the machine.

    python benchmarks/step.py [--reference PATH] [--size 256] [--batch 1] [--json] [--rounds 5]

Variants take turns, so that a machine that slows down slows all; medians. The reference is a checkout
of pytorch-CycleGAN-and-pix2pix or CUT, with its default options: it is given our weights, and losses
and gradients of one fp32 step are compared before anything is timed; where mathematics differ (losses
on a CPU, or gradients in float64, by more than 1e-5) nothing is. `share_of_peak` is the step's
counted floating-point operations over its time, as a share of the fastest matrix product or
convolution measured in the same run in the same precision.
"""

import argparse
import copy
import functools
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from models.networks.generators.generator_config import GeneratorConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.reference_repository import ReferenceProcess
from benchmarks.timing import chosen, seconds_of
from common.command import run_command
from common.errors import RunError
from data.tensors import normalize
from engine.config import TrainingConfig
from engine.runtime import Runtime, RuntimeConfig
from engine.schedule import make_schedule
from engine.train_step import TrainStep
from models.methods.cyclegan import CycleGAN
from models.networks.discriminators.patch_discriminator import PatchDiscriminator

# Name -> precision, compilation.
VARIANTS = {
    "fp32": RuntimeConfig(precision="fp32"),
    "fp32 compiled": RuntimeConfig(precision="fp32", compile="regions"),
    "tf32": RuntimeConfig(precision="tf32"),
    "bf16": RuntimeConfig(precision="bf16"),
    "bf16 compiled": RuntimeConfig(precision="bf16", compile="regions"),
    "bf16 graph": RuntimeConfig(precision="bf16", cuda_graph=True),
    "bf16 compiled graph": RuntimeConfig(precision="bf16", compile="regions", cuda_graph=True),
    "bf16 networks graph": RuntimeConfig(precision="bf16", compile="networks", cuda_graph=True),
    "tf32 graph": RuntimeConfig(precision="tf32", cuda_graph=True),
}
TOLERANCE = 1e-5  # relative, of losses and of gradients without rounding
CPU_VARIANTS = ("fp32", "fp32 compiled", "bf16", "bf16 compiled")


def train_step_for(runtime: RuntimeConfig, batch: int, channels: int, blocks: int) -> TrainStep:
    """Return a trainer of CycleGAN at full size, without data."""
    torch.manual_seed(0)
    config = CycleGAN.Config(
        generator=GeneratorConfig(channels=channels, blocks=blocks),
        discriminator=PatchDiscriminator.Config(channels=channels),
    )
    method = CycleGAN(config, {"a": 3, "b": 3})
    training = TrainingConfig(duration="1000000 steps", batch_size=batch)
    schedule = make_schedule(training.duration, training.decay_after, batch, 1000)
    return TrainStep(method, training, schedule, Runtime(runtime))


def images(size: int, batch: int) -> dict[str, torch.Tensor]:
    """Return a fixed uint8 batch of noise."""
    generator = torch.Generator().manual_seed(0)
    return {
        d: torch.randint(0, 256, (batch, 3, size, size), generator=generator).byte() for d in "ab"
    }


def peak_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Return the most floating-point operations a second of a large product and a convolution."""
    rates = []
    n = 8192 if device.type == "cuda" else 3072
    x, y = (
        torch.randn(n, n, device=device, dtype=dtype),
        torch.randn(n, n, device=device, dtype=dtype),
    )
    image = torch.randn(4, 256, 64, 64, device=device, dtype=dtype)
    kernel = torch.randn(256, 256, 3, 3, device=device, dtype=dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    products = (
        (2 * n**3, lambda: x @ y),
        (2 * 9 * 256 * 256 * 4 * 62 * 62, lambda: F.conv2d(image, kernel)),
    )
    with torch.no_grad():
        for operations, product in products:
            product()
            rates.append(operations / min(seconds_of(product, device) for _ in range(7)))
    return max(rates)


def count_flops(train_step: TrainStep, batch: dict[str, torch.Tensor]) -> float:
    """Return the floating-point operations of one step, counted as it runs (no replay)."""
    train_step.runtime.set_tf32()
    with FlopCounterMode(display=False) as counter:
        train_step.take_step(batch)
    return counter.get_total_flops()


def seconds_a_step(train_step: TrainStep, batch: dict[str, torch.Tensor], steps: int) -> float:
    """Return the mean time of a few steps in a row, the device's work done."""

    def play() -> None:
        for _ in range(steps):
            train_step.take_step(batch)

    train_step.runtime.set_tf32()  # of all variants the one that was made last has set it
    return seconds_of(play, train_step.runtime.device) / steps


def compare(
    train_step: TrainStep, reference: ReferenceProcess, batch: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Return the largest relative differences of losses and gradients in a step from equal weights.

    In float64 only other mathematics would differ. In float32 a last bit decides at every kink (ReLU,
    L1), so two ways of adding differ more: `rounding` is how far the reference is from its own
    gradients in float64.
    """
    method = train_step.method
    assert isinstance(method, CycleGAN)
    networks = (
        method.generator_ab,
        method.generator_ba,
        method.discriminator_a,
        method.discriminator_b,
    )
    weights = [
        [p.detach().cpu().clone().numpy() for p in network.parameters()] for network in networks
    ]
    reference.ask("take_weights", weights)
    exact = copy.deepcopy(method).double()
    ours = {name: loss.item() for name, loss in train_step.take_step(batch).items()}
    reference.ask("steps", 1)
    theirs, rounded = reference.ask("losses"), reference.ask("gradients")
    found = [gradients_of(network) for network in networks]

    device = train_step.runtime.device
    images_of = {d: normalize(x.to(device)).double() for d, x in batch.items()}
    for update in exact.updates(images_of, 0):
        parameters = [
            p for name in update.groups for p in exact.optimizer_groups()[name].parameters()
        ]
        update.total().backward(inputs=parameters)
    doubled = (exact.generator_ab, exact.generator_ba, exact.discriminator_a, exact.discriminator_b)
    reference.ask("take_weights", weights)
    reference.ask("double")
    reference.ask("steps", 1)
    true = reference.ask("gradients")
    reference.ask("float")
    return {
        "losses": max(abs(ours[name] - theirs[name]) / abs(theirs[name]) for name in theirs),
        "gradients": max_relative_difference(found, rounded),
        "gradients_in_float64": max_relative_difference(
            [gradients_of(network) for network in doubled], true
        ),
        "rounding": max_relative_difference(rounded, true),
    }


def gradients_of(network: torch.nn.Module) -> list[np.ndarray]:
    """Return the gradients of a network's weights on the CPU.

    A bias before an instance norm has a true gradient of zero: ours has none, what the reference has
    is rounding.
    """
    return [p.grad.cpu().numpy() for p in network.parameters() if p.grad is not None and p.ndim > 1]


def max_relative_difference(some: list[list[np.ndarray]], others: list[list[np.ndarray]]) -> float:
    """Return the largest difference of two gradients, relative to the second's norm."""
    pairs = (
        pair for ours, theirs in zip(some, others, strict=True) for pair in zip(ours, theirs, strict=True)
    )  # fmt: skip
    return max(float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in pairs)


def main(arguments: list[str]) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="step.py", description=__doc__)
    parser.add_argument("--reference", type=Path, help="a checkout to time beside ours")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--variants", default="", help=f"of {', '.join(VARIANTS)}; separated by commas"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only-time", action="store_true", help="without comparing gradients")
    known = parser.parse_args(arguments)
    device = Runtime(RuntimeConfig()).device
    batch = images(known.size, known.batch)
    names = [*chosen("--variants", known.variants, VARIANTS)] if known.variants else list(
        CPU_VARIANTS if device.type == "cpu" else VARIANTS
    )  # fmt: skip
    train_steps = {
        name: train_step_for(VARIANTS[name], known.batch, known.channels, known.blocks)
        for name in names
    }
    steps = 10 if device.type == "cuda" else 1  # without waiting for the device between them
    actions: dict[str, Callable[[], float]] = {
        name: functools.partial(seconds_a_step, train_step, batch, steps)
        for name, train_step in train_steps.items()
    }
    if known.reference:
        reference = ReferenceProcess(known.reference, device, [normalize(batch[d]) for d in "ab"])
        exact_names = [name for name in names if name.startswith("fp32")] or ["fp32"]
        for name in [] if known.only_time else exact_names:
            plain = train_step_for(VARIANTS[name], known.batch, known.channels, known.blocks)
            differences = compare(plain, reference, batch)
            print(json.dumps({"difference_to_reference": differences, "of": name}), flush=True)
            checked = ["gradients_in_float64", *(["losses"] if device.type == "cpu" else [])]
            for what in checked:
                if not differences[what] <= TOLERANCE:
                    raise RunError(
                        f"{name}: {what} differ from the reference's by {differences[what]:.1e}, more "
                        f"than {TOLERANCE}: that is not the same step, so it is not timed"
                    )
            del plain
        actions["reference"] = functools.partial(reference.ask, "steps", steps)
        if device.type == "cuda":  # without TF32, which torch gives convolutions by default
            exact = ReferenceProcess(known.reference, device, [normalize(batch[d]) for d in "ab"])
            exact.ask("exact")
            actions["reference, no TF32"] = functools.partial(exact.ask, "steps", steps)
    peaks = {
        p: peak_flops(t, device) for p, t in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    first = {name: action() for name, action in actions.items()}  # compiles
    operations = {
        name: count_flops(
            train_step_for(replace(VARIANTS[name], cuda_graph=False), known.batch, known.channels, known.blocks),
            batch,
        )
        for name in names
    }  # fmt: skip
    for action in actions.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(known.rounds):
        for name, action in actions.items():
            times[name].append(action())
    for name, values in times.items():
        median = statistics.median(values)
        precision = "bf16" if "bf16" in name else "fp32"
        # The reference's operations are those of our plain step.
        counted = operations.get(name, operations.get("fp32"))
        share = None if counted is None else round(counted / median / peaks[precision], 3)
        row = {
            "precision": name, "seconds": round(median, 5), "spread": round(max(values) - min(values), 5),
            "ratio": round(statistics.median(times["reference"]) / median, 3) if known.reference else None,
            "share_of_peak": share,
            "tflop": None if counted is None else round(counted / 1e12, 3),
            "peak_tflops": round(peaks[precision] / 1e12, 3),
            "first_step_seconds": round(first[name], 2), "size": known.size, "batch": known.batch,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
        }  # fmt: skip
        line = f"{name:<20} {median:8.3f} s  ratio {row['ratio']}"
        line += "" if share is None else f"  {share:.0%} of peak"
        print(json.dumps(row) if known.json else line, flush=True)


if __name__ == "__main__":
    run_command(main)
