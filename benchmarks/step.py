"""Compare the time of a training step with the reference's and with the machine's peak.

    python benchmarks/step.py [--reference PATH] [--size 256] [--batch 1] [--json] [--rounds 5]

The variants run in alternation, so that a slower machine affects all of them, and the median is
reported. The reference is a checkout of pytorch-CycleGAN-and-pix2pix or CUT with its default
options. Before any timing it loads our weights, and the losses and gradients of one fp32 step are
compared. If they differ by more than 1e-5 (losses on a CPU, or gradients in float64), nothing is
timed. `share_of_peak` is the rate of the step's floating-point operations as a share of the fastest
matrix product or convolution that was measured in the same run and precision.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.reference_step import ReferenceProcess
from benchmarks.timing import measure_seconds, select_variants
from common.errors import RunError
from common.run_main import run_command
from data.tensors import normalize
from engine.runtime import Runtime, RuntimeConfig
from engine.schedule import make_schedule
from engine.train_config import TrainingConfig
from engine.train_step import TrainStep
from models.methods.cyclegan import CycleGAN
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.generator_config import GeneratorConfig

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
TOLERANCE = 1e-5  # relative, for losses and for gradients in float64
CPU_VARIANTS = ("fp32", "fp32 compiled", "bf16", "bf16 compiled")


def build_train_step(runtime: RuntimeConfig, batch: int, channels: int, blocks: int) -> TrainStep:
    """Return the training step of CycleGAN, without a data set."""
    torch.manual_seed(0)
    config = CycleGAN.Config(
        generator=GeneratorConfig(channels=channels, blocks=blocks),
        discriminator=PatchDiscriminator.Config(channels=channels),
    )
    method = CycleGAN(config, {"a": 3, "b": 3})
    training = TrainingConfig(duration="1000000 steps", batch_size=batch)
    schedule = make_schedule(training.duration, training.decay_after, batch, 1000)
    return TrainStep(method, training, schedule, Runtime(runtime))


def noise_batch(size: int, batch: int) -> dict[str, torch.Tensor]:
    """Return a fixed batch of uint8 noise, domain -> [batch, 3, size, size]."""
    generator = torch.Generator().manual_seed(0)
    return {
        d: torch.randint(0, 256, (batch, 3, size, size), generator=generator).byte() for d in "ab"
    }


def peak_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Return the highest FLOP/s of a large matrix product and a convolution."""
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
            rates.append(operations / min(measure_seconds(product, device) for _ in range(7)))
    return max(rates)


def count_flops(train_step: TrainStep, batch: dict[str, torch.Tensor]) -> float:
    """Return the floating-point operations of one step, counted while it runs (no graph replay)."""
    train_step.runtime.set_tf32()
    with FlopCounterMode(display=False) as counter:
        train_step.take_step(batch)
    return counter.get_total_flops()


def seconds_per_step(train_step: TrainStep, batch: dict[str, torch.Tensor], steps: int) -> float:
    """Return the mean seconds of several steps in a row, until the device has finished."""

    def run() -> None:
        for _ in range(steps):
            train_step.take_step(batch)

    train_step.runtime.set_tf32()  # a global setting, which the last variant has changed
    return measure_seconds(run, train_step.runtime.device) / steps


def compare(
    train_step: TrainStep, reference: ReferenceProcess, batch: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Return the largest relative differences of losses and gradients of one step.

    Both start from equal weights. In float64 a difference means different mathematics. In float32
    rounding selects the side of every kink (ReLU, L1), so equal mathematics can differ more:
    `rounding` is the difference between the reference's own gradients in float32 and in float64.
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
    reference.call("load_weights", weights)
    method_in_float64 = copy.deepcopy(method).double()
    ours = {name: loss.item() for name, loss in train_step.take_step(batch).items()}
    reference.call("take_steps", 1)
    theirs, their_gradients = reference.call("losses"), reference.call("gradients")
    our_gradients = [weight_gradients(network) for network in networks]

    device = train_step.runtime.device
    images = {d: normalize(x.to(device)).double() for d, x in batch.items()}
    for update in method_in_float64.updates(images, 0):
        parameters = [
            p
            for name in update.groups
            for p in method_in_float64.optimizer_groups()[name].parameters()
        ]
        update.total().backward(inputs=parameters)
    networks_in_float64 = (
        method_in_float64.generator_ab,
        method_in_float64.generator_ba,
        method_in_float64.discriminator_a,
        method_in_float64.discriminator_b,
    )
    reference.call("load_weights", weights)
    reference.call("double")
    reference.call("take_steps", 1)
    true_gradients = reference.call("gradients")
    reference.call("float")
    return {
        "losses": max(abs(ours[name] - theirs[name]) / abs(theirs[name]) for name in theirs),
        "gradients": max_relative_difference(our_gradients, their_gradients),
        "gradients_in_float64": max_relative_difference(
            [weight_gradients(network) for network in networks_in_float64], true_gradients
        ),
        "rounding": max_relative_difference(their_gradients, true_gradients),
    }


def weight_gradients(network: torch.nn.Module) -> list[np.ndarray]:
    """Return the gradients of a network's weights on the CPU, without those of biases.

    The true gradient of a bias before an instance norm is zero: our networks omit that bias, and
    the reference's gradient is a rounding error.
    """
    return [p.grad.cpu().numpy() for p in network.parameters() if p.grad is not None and p.ndim > 1]


def max_relative_difference(some: list[list[np.ndarray]], others: list[list[np.ndarray]]) -> float:
    """Return the largest difference between two gradients, relative to the norm of the second."""
    pairs = (
        pair
        for ours, theirs in zip(some, others, strict=True)
        for pair in zip(ours, theirs, strict=True)
    )
    return max(float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in pairs)


def main(arguments: list[str]) -> None:
    """Parse the command line and run the benchmark."""
    parser = argparse.ArgumentParser(prog="step.py", description=__doc__)
    parser.add_argument(
        "--reference", type=Path, help="a checkout of the reference to time as well"
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--variants", default="", help=f"some of {', '.join(VARIANTS)}, separated by commas"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only-time", action="store_true", help="do not compare gradients")
    args = parser.parse_args(arguments)
    device = Runtime(RuntimeConfig()).device
    batch = noise_batch(args.size, args.batch)
    names = [*select_variants("--variants", args.variants, VARIANTS)] if args.variants else list(
        CPU_VARIANTS if device.type == "cpu" else VARIANTS
    )  # fmt: skip
    train_steps = {
        name: build_train_step(VARIANTS[name], args.batch, args.channels, args.blocks)
        for name in names
    }
    steps = 10 if device.type == "cuda" else 1  # the host does not wait for the device between them
    actions: dict[str, Callable[[], float]] = {
        name: functools.partial(seconds_per_step, train_step, batch, steps)
        for name, train_step in train_steps.items()
    }
    if args.reference:
        reference = ReferenceProcess(args.reference, device, [normalize(batch[d]) for d in "ab"])
        exact_names = [name for name in names if name.startswith("fp32")] or ["fp32"]
        for name in [] if args.only_time else exact_names:
            checked_step = build_train_step(VARIANTS[name], args.batch, args.channels, args.blocks)
            differences = compare(checked_step, reference, batch)
            print(json.dumps({"difference_to_reference": differences, "of": name}), flush=True)
            quantities = ["gradients_in_float64", *(["losses"] if device.type == "cpu" else [])]
            for quantity in quantities:
                difference = differences[quantity]
                if not difference <= TOLERANCE:
                    raise RunError(
                        f"{name}: {quantity} differ from the reference's by {difference:.1e}, "
                        f"more than {TOLERANCE}: it is not the same step, so it is not timed"
                    )
            del checked_step
        actions["reference"] = functools.partial(reference.call, "take_steps", steps)
        if device.type == "cuda":  # also without TF32, which torch enables for convolutions
            exact = ReferenceProcess(args.reference, device, [normalize(batch[d]) for d in "ab"])
            exact.call("disable_tf32")
            actions["reference, no TF32"] = functools.partial(exact.call, "take_steps", steps)
    peaks = {
        p: peak_flops(t, device) for p, t in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    first = {name: action() for name, action in actions.items()}  # compiles
    operations = {
        name: count_flops(
            build_train_step(
                replace(VARIANTS[name], cuda_graph=False), args.batch, args.channels, args.blocks
            ),
            batch,
        )
        for name in names
    }
    for action in actions.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(args.rounds):
        for name, action in actions.items():
            times[name].append(action())
    for name, values in times.items():
        median = statistics.median(values)
        precision = "bf16" if "bf16" in name else "fp32"
        # The reference does the same operations as our fp32 step.
        flops = operations.get(name, operations.get("fp32"))
        share = None if flops is None else round(flops / median / peaks[precision], 3)
        ratio = statistics.median(times["reference"]) / median if args.reference else None
        row = {
            "precision": name, "seconds": round(median, 5),
            "spread": round(max(values) - min(values), 5),
            "ratio": None if ratio is None else round(ratio, 3), "share_of_peak": share,
            "tflop": None if flops is None else round(flops / 1e12, 3),
            "peak_tflops": round(peaks[precision] / 1e12, 3),
            "first_step_seconds": round(first[name], 2), "size": args.size, "batch": args.batch,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
        }  # fmt: skip
        line = f"{name:<20} {median:8.3f} s  ratio {row['ratio']}"
        line += "" if share is None else f"  {share:.0%} of peak"
        print(json.dumps(row) if args.json else line, flush=True)


if __name__ == "__main__":
    run_command(main)
