"""Detect failures of training: NaN and infinity in every step, slow failures at validation."""

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.train_config import TrainingConfig
from training.failure_modes import FAILURE_MODES, is_unchanged

MAX_PENDING_STEPS = 8  # steps that the device may lag behind the host before the host waits
SATURATED_BELOW = 0.02  # running mean of a discriminator's loss: below it, it is always right
LOSS_EMA_DECAY = 0.99  # of the running means of losses: a half-life of 69 steps
MIN_STEPS = 200  # steps before the running means are used
CONSECUTIVE = 2  # validations in a row that must show a failure before it is reported


class NonFiniteError(Exception):
    """A loss or gradient is NaN or infinite: `what` names it, `step` is the step's number."""

    def __init__(self, what: str, step: int, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.what = what
        self.step = step


@dataclass(frozen=True)
class _Pending:
    """The values of a step, which may still be on their way from the device to the host."""

    step: int
    names: list[str]
    values: Tensor
    copied: torch.cuda.Event | None


class TrainingMonitor:
    """Check the losses and gradients of every step, and the translations of every validation.

    Nothing waits for the device: a step's losses and gradient norms are copied asynchronously while
    later steps run. They are checked once the copy is done, at the latest before anything is logged
    or saved.
    """

    def __init__(
        self, config: TrainingConfig, device: torch.device, same_step_on_all_ranks: bool = False,
        discriminator_losses: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Use the `on_nonfinite` policy of `config`.

        `same_step_on_all_ranks`: all ranks check a step at the same later step.
        `discriminator_losses`: names of the losses that are checked for saturation.
        """
        self.policy = config.on_nonfinite
        self.limit = config.nonfinite_limit
        self.device = device
        self.discriminator_losses = frozenset(discriminator_losses)
        self.same_step_on_all_ranks = same_step_on_all_ranks
        self.consecutive_skips = 0
        self._pending: deque[_Pending] = deque()
        self._latest: dict[str, float] = {}
        self._means: dict[str, float] = {}
        self._steps_checked = 0
        self._times_seen: dict[tuple[str, str], int] = {}
        self._warned: set[str] = set()
        self._new_warnings: list[tuple[str, str]] = []

    @property
    def rolls_back(self) -> bool:
        """Whether the run continues from the last checkpoint after a NaN or infinity."""
        return self.policy == "rollback"

    def push(self, step: int, losses: Mapping[str, Tensor], norms: Mapping[str, Tensor]) -> None:
        """Add a step's losses and gradient norms; NonFiniteError if it or an earlier one failed."""
        names = [*losses, *(f"gradients/{name}" for name in norms)]
        values = torch.stack([x.detach().float() for x in (*losses.values(), *norms.values())])
        copied = None
        if self.device.type == "cuda":
            values = torch.empty_like(values, device="cpu", pin_memory=True).copy_(
                values, non_blocking=True
            )
            copied = torch.cuda.Event()
            copied.record()
        self._pending.append(_Pending(step, names, values, copied))
        while self._pending:
            oldest = self._pending[0]
            if oldest.copied is not None and (
                self.same_step_on_all_ranks or not oldest.copied.query()
            ):
                if len(self._pending) <= MAX_PENDING_STEPS:
                    break
                oldest.copied.synchronize()
            self._check(self._pending.popleft())

    def drain(self) -> None:
        """Check all steps so far, waiting for the device; NonFiniteError if one failed."""
        while self._pending:
            if (copied := self._pending[0].copied) is not None:
                copied.synchronize()
            self._check(self._pending.popleft())

    def reset(self) -> None:
        """Forget the steps that are not checked yet: the run continues from an earlier one."""
        self._pending.clear()
        self.consecutive_skips = 0

    def values(self) -> dict[str, float]:
        """Return the finite losses and gradient norms of the latest step, after `drain`."""
        self.drain()
        return {name: value for name, value in self._latest.items() if math.isfinite(value)}

    def check_images(self, step: int, rows: Mapping[str, Sequence[Sequence[Tensor]]],
             reals: Mapping[str, Sequence[Tensor]]) -> None:  # fmt: skip
        """Check translations for slow failures.

        By direction: `rows` are [real, fake, ...], images [1, C, H, W] in [-1, 1]; `reals` are
        images of the target domain.
        """
        for direction, images in rows.items():
            sources, fakes = ([row[index] for row in images] for index in (0, 1))
            source, target = direction.split("_to_")
            for failure_mode in FAILURE_MODES:
                if source == target and failure_mode.detect is is_unchanged:
                    continue  # a translator into its own domain should return its input
                detected = failure_mode.detect(sources, fakes, reals[direction])
                key = (failure_mode.title, direction)
                self._times_seen[key] = self._times_seen.get(key, 0) + 1 if detected else 0
                if self._times_seen[key] >= CONSECUTIVE:
                    self._warn_once(
                        f"{direction}, step {step}: {failure_mode.title}", failure_mode.advice, *key
                    )

    def warnings(self) -> list[tuple[str, str]]:
        """Return the new warnings as (title, suggested fix); each is returned once a run."""
        new, self._new_warnings = self._new_warnings, []
        return new

    def _check(self, pending: _Pending) -> None:
        """Check a step's values; NonFiniteError if one is not finite and may not be skipped."""
        self._latest = dict(zip(pending.names, pending.values.tolist(), strict=True))
        bad = next((n for n, value in self._latest.items() if not math.isfinite(value)), None)
        if bad is None:
            self.consecutive_skips = 0
            self._track_discriminator_losses(pending.step)
            return
        self.consecutive_skips += 1
        is_gradient, _, group = bad.rpartition("/")
        subject = f"a gradient of the {group}" if is_gradient else f"the loss {bad}"
        what = f"{subject} became {self._latest[bad]} at step {pending.step}"
        advice = "lower learning_rate, or use runtime.precision=fp32"
        if self.policy != "skip" or self.consecutive_skips > self.limit:
            skips = f" ({self.consecutive_skips} steps in a row)" if self.policy == "skip" else ""
            raise NonFiniteError(what + skips, pending.step, advice)
        self._warn_once(f"{what}; the step is left out", advice, "skipped", "")

    def _track_discriminator_losses(self, step: int) -> None:
        """Update running means of the discriminators' losses; warn of one that stays near 0."""
        self._steps_checked += 1
        for name, value in self._latest.items():
            if name not in self.discriminator_losses:
                continue
            self._means[name] = (
                LOSS_EMA_DECAY * self._means.get(name, value) + (1 - LOSS_EMA_DECAY) * value
            )
            # A loss that can be negative (wgan) has no meaning at 0.
            if self._steps_checked >= MIN_STEPS and 0 <= self._means[name] < SATURATED_BELOW:
                self._warn_once(
                    f"{name} has been near 0 up to step {step}: the discriminator is never in doubt, "
                    "and the generator learns nothing from it",
                    "try fewer method.discriminator.layers, more images, or a lower learning_rate",
                    "saturated", name,
                )  # fmt: skip

    def _warn_once(self, title: str, advice: str, *key: str) -> None:
        if (name := "/".join(key)) not in self._warned:
            self._warned.add(name)
            self._new_warnings.append((title, advice))
