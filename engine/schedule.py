"""Compute the length of a run and its learning rate, as functions of the step alone."""

import math
import re
from dataclasses import dataclass

from common.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """The length of a run in steps and its learning-rate schedule.

    An epoch is one pass through the largest domain, `epoch_images` images. A run measured in epochs
    changes its rate at epochs, one measured in steps at every step. With `constant_units` units of
    the full rate and `decay_units` units after them, unit u (from 1) has the factor 1 - max(0, u -
    constant_units) / (decay_units + 1): the last unit still learns. (Methods of 2017 to 2020 differ
    by one here: docs/decisions.md.)
    """

    steps: int
    batch_size: int
    epoch_images: int
    unit_images: int  # images in a unit of the schedule: an epoch, or a batch
    constant_units: int
    decay_units: int
    warm_up: int = 0  # steps over which the rate rises to its full height

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate in step number `step` (from 0)."""
        unit = step * self.batch_size // self.unit_images + 1
        rising = min(1.0, (step + 1) / (self.warm_up + 1))
        return rising * (1.0 - max(0, unit - self.constant_units) / (self.decay_units + 1))

    @property
    def warm_up_exceeds_run(self) -> bool:
        """Whether the rate would still be rising when the run ends."""
        return self.warm_up > self.steps

    def epoch(self, step: int) -> float:
        """Return how many epochs have passed before this step."""
        return step * self.batch_size / self.epoch_images


def make_schedule(
    duration: str, decay_after: str, batch_size: int, epoch_images: int, warm_up: str = "0 steps"
) -> Schedule:
    """Return the schedule of a run of `duration` ("200 epochs", "5000 steps").

    The learning rate decays after `decay_after` and rises until `warm_up`: durations too, or
    percentages of the run ("50%"). UserError where a text is neither.
    """
    length, unit = _parse_duration("duration", duration)
    if length <= 0:
        raise UserError(f"duration must be more than 0, got '{duration}'", option="duration")
    start, start_unit = _parse_duration("decay_after", decay_after)
    if start_unit == "%" and start > 100:
        raise UserError(
            f"decay_after: '{decay_after}' is more than the run; 100% never decays",
            option="decay_after",
        )
    if start_unit == "%":
        start, start_unit = length * start / 100, unit
    unit_images = epoch_images if unit == start_unit == "epochs" else batch_size
    total_images = length * (epoch_images if unit == "epochs" else batch_size)
    start_images = start * (epoch_images if start_unit == "epochs" else batch_size)
    rise, rise_unit = _parse_duration("warm_up", warm_up)
    rise_images = {"%": total_images / 100, "epochs": epoch_images, "steps": batch_size}[rise_unit]
    units, constant_units = math.ceil(total_images / unit_images), round(start_images / unit_images)
    return Schedule(
        steps=max(1, math.ceil(total_images / batch_size)), batch_size=batch_size,
        epoch_images=epoch_images, unit_images=unit_images,
        constant_units=min(constant_units, units), decay_units=max(0, units - constant_units),
        warm_up=round(rise * rise_images / batch_size),
    )  # fmt: skip


def check_durations(duration: str, decay_after: str, warm_up: str) -> None:
    """Raise UserError where a text is not a duration, before any image is searched for."""
    make_schedule(duration, decay_after, 1, 1, warm_up)


def _parse_duration(option: str, text: str) -> tuple[float, str]:
    """Return the number and the unit (epochs, steps or %) of an option's text."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(epochs?|steps?|%)\s*", text)
    if not match or (option == "duration" and match[2] == "%"):
        forms = "'200 epochs' or '5000 steps'" + ("" if option == "duration" else " or '50%'")
        raise UserError(f"{option}: '{text}' is not a length; write {forms}", option=option)
    value, unit = float(match[1]), match[2]
    return value, unit if unit == "%" else unit.rstrip("s") + "s"


SECONDS_PER_UNIT = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def parse_budget(budget: str) -> float:
    """Return the seconds in a time such as "6h", "90min" or "1.5d"; UserError for other texts."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d)\s*", budget)
    if not match or not (seconds := float(match[1]) * SECONDS_PER_UNIT[match[2]]):
        raise UserError(
            f"budget must be a time such as 90min, 6h or 2d, got '{budget}'", option="budget"
        )
    return seconds


def fit_to_budget(schedule: Schedule, seconds: float, step_seconds: float) -> tuple[str, str]:
    """Return (duration, decay_after) of a run that takes `seconds`, at `step_seconds` a step.

    The learning rate decays after the same share of the run as in `schedule`. UserError where fewer
    than ten steps fit.
    """
    steps = int(seconds / step_seconds)
    if steps < 10:
        raise UserError(
            f"budget: a step takes {step_seconds:.3g} s, so only {steps} fit; allow at least 10",
            option="budget",
        )
    share = schedule.constant_units / max(schedule.constant_units + schedule.decay_units, 1)
    return f"{steps} steps", f"{round(steps * share)} steps"
