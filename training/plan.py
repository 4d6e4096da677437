"""What a run would take: a few real steps of it and of its variants, each in a process of its own."""

import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from statistics import median
from typing import Any

import torch

from common.errors import UserError, one_line
from data.config import MAX_SIDE
from engine.config import MAX_BATCH_SIZE
from engine.hardware.memory import free_memory, is_out_of_memory
from engine.runtime import Runtime
from engine.schedule import Schedule, fit_to_budget, make_schedule, parse_budget
from engine.train_step import TrainStep
from models import methods
from options.config import TrainOptions

WARM_UP, STEPS = 2, 3
RESERVED_SHARE = 0.05  # of a budget, for what is not a step: start, previews, scores, checkpoints
MEMORY_SHARE = 0.9  # of the free memory that a step may take
CROP_MULTIPLE = 32
MIN_GROWTH_BYTES = 4 * 2**20  # bytes: less is what two processes differ by anyway


@dataclass(frozen=True)
class StepCost:
    """What a step takes on this machine."""

    seconds: float  # median
    peak: int  # bytes at most, all of the process on a CPU
    parameters: int


def measure(options: TrainOptions) -> StepCost:
    """Take a few steps on noise, in this process."""
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
    for number in range(WARM_UP + STEPS):
        began = time.perf_counter()
        float(next(iter(train_step.take_step(batch).values())))  # waits for the device
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - began)
    if runtime.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(runtime.device)
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    parameters = sum(p.numel() for p in method.parameters())
    return StepCost(median(seconds), peak, parameters)


def measure_in_subprocess(options: TrainOptions) -> StepCost | str:
    """Measure in a process of its own, whose memory is the step's; or say why that did not work."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, options).result()
        except BrokenProcessPool:
            return "killed: out of memory, most often"
        except (RuntimeError, MemoryError, ValueError, UserError) as error:
            return "out of memory" if is_out_of_memory(error) else one_line(error, 80)


def variants(options: TrainOptions) -> Iterator[tuple[str, TrainOptions]]:
    """Yield the run as it is asked for, and what may be faster or smaller, by what to add to its command."""
    yield "as asked", options
    here = options.runtime
    cuda = Runtime(here).device.type == "cuda"
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
        if (runtime := replace(here, **change)) != here:
            yield words, replace(options, runtime=runtime)


def plan_lines(options: TrainOptions, schedule: Schedule) -> Iterator[str]:
    """Yield the lines of a plan as they are measured."""
    size, batch = options.data.crop_size, options.batch_size
    device = Runtime(options.runtime).device
    yield (
        f"plan: {options.method.name}, {schedule.steps:,} steps of {batch} x {size} pixels on {device}; "
        f"{WARM_UP + STEPS} real steps of each variant, compiled ones first compile"
    )
    yield f"{'s/step':>8} {'images/s':>9} {'memory':>9} {'to the end':>11}"
    asked: StepCost | None = None
    for words, variant in variants(options):
        found = measure_in_subprocess(variant)
        if isinstance(found, str):
            yield f"{'-':>8} {'-':>9} {'-':>9} {'-':>11}  {words}: {found}"
            continue
        asked = asked or (found if words == "as asked" else None)
        yield (
            f"{found.seconds:>8.3g} {batch / found.seconds:>9.3g} {found.peak / 2**30:>6.2f} GB "
            f"{_span(found.seconds * schedule.steps):>11}  {words}"
        )
    if asked is None:
        yield "it does not run as it is asked for: lower batch_size or data.crop_size"
        return
    twice = measure_in_subprocess(replace(options, batch_size=2 * batch))
    if isinstance(twice, StepCost):
        yield _largest(asked, twice, batch, size, free_memory(device) * MEMORY_SHARE)
    if options.budget:
        seconds = parse_budget(options.budget) * (1 - RESERVED_SHARE)
        duration, decay = fit_to_budget(schedule, seconds, asked.seconds)
        yield f'in {options.budget}: duration="{duration}" decay_after="{decay}"'


def _largest(one: StepCost, twice: StepCost, batch: int, size: int, free: float) -> str:
    """Return what fits, by the growth from a batch to twice that: memory follows the pixels."""
    growth = twice.peak - one.peak
    if growth < MIN_GROWTH_BYTES:
        return "a batch twice as large takes no more memory that could be measured"
    a_pixel = growth / (batch * size**2)
    pixels = max(free - (one.peak - growth), 0) / a_pixel  # beside what no image takes
    largest = min(int(pixels / size**2), MAX_BATCH_SIZE)
    side = min(int((pixels / batch) ** 0.5) // CROP_MULTIPLE * CROP_MULTIPLE, MAX_SIDE)
    return (
        f"about what fits into {free / 2**30:.1f} GB: batch_size={largest} at {size} pixels, "
        f"or data.crop_size={side} at batch_size={batch}"
    )


def apply_budget(options: TrainOptions, schedule: Schedule) -> TrainOptions:
    """Return options whose schedule ends within their budget, by the time of a few real steps."""
    found = measure_in_subprocess(options)
    if isinstance(found, str):
        raise UserError(f"budget: the steps could not be measured ({found})")
    seconds = parse_budget(options.budget) * (1 - RESERVED_SHARE)
    duration, decay = fit_to_budget(schedule, seconds, found.seconds)
    return replace(options, duration=duration, decay_after=decay)


def _span(seconds: float) -> str:
    hours = seconds / 3600
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} h" if hours >= 1 else f"{seconds / 60:.1f} min"
