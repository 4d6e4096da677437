"""How long a run is and how its learning rate falls, as functions of the step alone."""

import math
import re
from dataclasses import dataclass

from common.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """The length of a run in steps and its learning-rate law.

    An epoch is one pass through the largest domain, `epoch_images` long. A run counted in epochs
    changes its rate at epochs, one counted in steps at every step. With `flat` units of the full rate
    and `falling` units after them, unit u (from 1) has the factor 1 - max(0, u - flat) / (falling + 1):
    the last unit still learns. (methods of 2017 to 2020 differ by one here: docs/decisions.md.)
    """

    steps: int
    batch_size: int
    epoch_images: int
    unit_images: int  # images in a unit of the law: an epoch, or a batch
    constant_units: int
    decay_units: int
    warm_up: int = 0  # steps over which the rate rises to its full height

    def factor(self, step: int) -> float:
        """Return what the learning rate is multiplied by in step number `step` (from 0)."""
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
    """Lay out a run of `duration` ("200 epochs", "5000 steps") that decays after `decay_after`.

    `decay_after` is a duration too, or a share of it ("50%"), and so is `warm_up`. UserError where a
    text is neither.
    """
    length, unit = _parse("duration", duration)
    if length <= 0:
        raise UserError(f"duration must be more than 0, got '{duration}'")
    start, start_unit = _parse("decay_after", decay_after)
    if start_unit == "%" and start > 100:
        raise UserError(f"decay_after: '{decay_after}' is more than the run; 100% never decays")
    if start_unit == "%":
        start, start_unit = length * start / 100, unit
    unit_images = epoch_images if unit == start_unit == "epochs" else batch_size
    total_images = length * (epoch_images if unit == "epochs" else batch_size)
    start_images = start * (epoch_images if start_unit == "epochs" else batch_size)
    rise, rise_unit = _parse("warm_up", warm_up)
    rise_images = {"%": total_images / 100, "epochs": epoch_images, "steps": batch_size}[rise_unit]
    units, constant_units = math.ceil(total_images / unit_images), round(start_images / unit_images)
    return Schedule(
        steps=max(1, math.ceil(total_images / batch_size)), batch_size=batch_size,
        epoch_images=epoch_images, unit_images=unit_images,
        constant_units=min(constant_units, units), decay_units=max(0, units - constant_units),
        warm_up=round(rise * rise_images / batch_size),
    )  # fmt: skip


def check_durations(duration: str, decay_after: str, warm_up: str) -> None:
    """Raise UserError where the texts do not say a length, before any image is looked for."""
    make_schedule(duration, decay_after, 1, 1, warm_up)


def _parse(option: str, text: str) -> tuple[float, str]:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(epochs?|steps?|%)\s*", text)
    if not match or (option == "duration" and match[2] == "%"):
        ways = "'200 epochs' or '5000 steps'" + ("" if option == "duration" else " or '50%'")
        raise UserError(f"{option}: '{text}' is no length; write {ways}")
    value, unit = float(match[1]), match[2]
    return value, unit if unit == "%" else unit.rstrip("s") + "s"


UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def parse_budget(budget: str) -> float:
    """Return the seconds of a text such as "6h", "90min" or "1.5d"; UserError where it is none."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d)\s*", budget)
    if not match or not (seconds := float(match[1]) * UNITS[match[2]]):
        raise UserError(f"budget must be a time such as 90min, 6h or 2d, got '{budget}'")
    return seconds


def fit_to_budget(schedule: Schedule, seconds: float, step_seconds: float) -> tuple[str, str]:
    """Return duration and decay_after of a run that takes `seconds`, of the shape of `schedule`.

    UserError where not even ten steps fit.
    """
    steps = int(seconds / step_seconds)
    if steps < 10:
        raise UserError(f"budget: a step takes {step_seconds:.3g} s, so only {steps} fit")
    share = schedule.constant_units / max(schedule.constant_units + schedule.decay_units, 1)
    return f"{steps} steps", f"{round(steps * share)} steps"
