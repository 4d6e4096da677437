"""Estimate the time and memory of a run from a few real steps, also of faster variants."""

import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch

from common.errors import UserError, one_line
from data.config import MAX_SIDE
from engine.hardware.memory import free_memory, is_out_of_memory
from engine.runtime import Runtime
from engine.schedule import Schedule, fit_to_budget, make_schedule, parse_budget
from engine.train_config import MAX_BATCH_SIZE
from engine.train_step import TrainStep
from models import methods
from options.config import TrainOptions

WARM_UP_STEPS, MEASURED_STEPS = 2, 3
RESERVED_SHARE = 0.05  # of a budget, for start, previews, validation and checkpoints
MEMORY_SHARE = 0.9  # of the free memory that a step may take
CROP_MULTIPLE = 32
SECONDS_TO_END = 10.0  # of the subprocess, after it has sent its result
MIN_GROWTH_BYTES = 4 * 2**20  # two equal processes differ by less


@dataclass(frozen=True)
class StepCost:
    """Time and memory of one training step on this machine."""

    seconds: float  # median
    peak: int  # peak memory in bytes: allocated on a GPU, or of the whole process on a CPU
    parameters: int


def measure(options: TrainOptions) -> StepCost:
    """Return the cost of a step, measured on random images in this process."""
    torch.manual_seed(options.seed)
    runtime, channels = Runtime(options.runtime), options.data.channels_of()
    method = methods.build(options.method, channels)
    schedule = make_schedule("1000000 steps", "50%", options.batch_size, 1)
    train_step = TrainStep(method, options, schedule, runtime)
    size = options.data.crop_size
    batch = {
        domain: torch.randint(0, 256, (options.batch_size, count, size, size)).byte()
        for domain, count in channels.items()
    }
    seconds = []
    for number in range(WARM_UP_STEPS + MEASURED_STEPS):
        began = time.perf_counter()
        float(next(iter(train_step.take_step(batch).values())))  # waits for the device
        if number >= WARM_UP_STEPS:
            seconds.append(time.perf_counter() - began)
    if runtime.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(runtime.device)
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    parameters = sum(p.numel() for p in method.parameters())
    return StepCost(median(seconds), peak, parameters)


def measure_in_subprocess(options: TrainOptions) -> StepCost | str:
    """Measure in a separate process, whose peak memory is the step's; return an error as text."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_cost, args=(theirs, options), daemon=True)
    process.start()
    theirs.close()
    try:
        cost = ours.recv()
        process.join(SECONDS_TO_END)
        return cost
    except EOFError:
        return "killed: out of memory, most often"
    finally:  # also after Ctrl-C
        process.kill()
        process.join()


def _send_cost(connection: Connection, options: TrainOptions) -> None:
    """Send the cost of a step, or an error as text; this runs in the subprocess."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    try:
        connection.send(measure(options))
    except (RuntimeError, MemoryError, ValueError, UserError) as error:
        text = "out of memory" if is_out_of_memory(error) else one_line(error, 80)
        connection.send(text)


def variants(options: TrainOptions) -> Iterator[tuple[str, TrainOptions]]:
    """Yield (words to add to the command, options) of the run and of faster or smaller variants."""
    yield "as asked", options
    runtime = options.runtime
    cuda = Runtime(runtime).device.type == "cuda"
    bf16 = {"precision": "bf16"}
    changes: dict[str, dict[str, Any]] = {
        "runtime.precision=bf16": bf16,
        "runtime.precision=bf16 runtime.compile=regions": bf16 | {"compile": "regions"},
        "runtime.activation_checkpointing=true": {"activation_checkpointing": True},
    }
    if cuda:
        words = "runtime.precision=bf16 runtime.compile=networks runtime.cuda_graph=true"
        changes[words] = bf16 | {"compile": "networks", "cuda_graph": True}
    for words, change in changes.items():
        if (changed := replace(runtime, **change)) != runtime:
            yield words, replace(options, runtime=changed)


def plan_lines(options: TrainOptions, schedule: Schedule) -> Iterator[str]:
    """Yield the lines of the plan, each as soon as it is measured."""
    size, batch = options.data.crop_size, options.batch_size
    device = Runtime(options.runtime).device
    yield (
        f"plan: {options.method.name}, {schedule.steps:,} steps of {batch} x {size} pixels on "
        f"{device}; {WARM_UP_STEPS + MEASURED_STEPS} real steps of each variant (compiling takes "
        "longer)"
    )
    yield f"{'s/step':>8} {'images/s':>9} {'memory':>9} {'to the end':>11}"
    baseline: StepCost | None = None
    for words, variant in variants(options):
        cost = measure_in_subprocess(variant)
        if isinstance(cost, str):
            yield f"{'-':>8} {'-':>9} {'-':>9} {'-':>11}  {words}: {cost}"
            continue
        baseline = baseline or (cost if words == "as asked" else None)
        yield (
            f"{cost.seconds:>8.3g} {batch / cost.seconds:>9.3g} {cost.peak / 2**30:>6.2f} GB "
            f"{_duration(cost.seconds * schedule.steps):>11}  {words}"
        )
    if baseline is None:
        yield "the run does not work with these options: lower batch_size or data.crop_size"
        return
    doubled = measure_in_subprocess(replace(options, batch_size=2 * batch))
    if isinstance(doubled, StepCost):
        yield _largest_line(baseline, doubled, batch, size, free_memory(device) * MEMORY_SHARE)
    if options.budget:
        seconds = parse_budget(options.budget) * (1 - RESERVED_SHARE)
        duration, decay = fit_to_budget(schedule, seconds, baseline.seconds)
        yield f'in {options.budget}: duration="{duration}" decay_after="{decay}"'


def _largest_line(one: StepCost, doubled: StepCost, batch: int, size: int, free: float) -> str:
    """Return the line on the largest batch and crop that fit into `free` bytes.

    They are extrapolated from the peaks of a batch and of twice that: memory grows with the pixels.
    """
    growth = doubled.peak - one.peak
    if growth < MIN_GROWTH_BYTES:
        return "twice the batch takes no measurable extra memory"
    bytes_per_pixel = growth / (batch * size**2)
    fixed = one.peak - growth  # memory that does not depend on the images
    pixels = max(free - fixed, 0) / bytes_per_pixel
    largest = min(int(pixels / size**2), MAX_BATCH_SIZE)
    side = min(int((pixels / batch) ** 0.5) // CROP_MULTIPLE * CROP_MULTIPLE, MAX_SIDE)
    return (
        f"about what fits into {free / 2**30:.1f} GB: batch_size={largest} at {size} pixels, "
        f"or data.crop_size={side} at batch_size={batch}"
    )


def apply_budget(options: TrainOptions, schedule: Schedule) -> TrainOptions:
    """Return options whose schedule ends within the budget, by the measured time of a step.

    UserError: the step could not be measured, or fewer than ten steps fit.
    """
    cost = measure_in_subprocess(options)
    if isinstance(cost, str):
        raise UserError(
            f"budget: a step could not be measured ({cost}); set duration instead", option="budget"
        )
    seconds = parse_budget(options.budget) * (1 - RESERVED_SHARE)
    duration, decay = fit_to_budget(schedule, seconds, cost.seconds)
    return replace(options, duration=duration, decay_after=decay)


def _duration(seconds: float) -> str:
    """Return seconds as minutes, hours or days."""
    hours = seconds / 3600
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} h" if hours >= 1 else f"{seconds / 60:.1f} min"
