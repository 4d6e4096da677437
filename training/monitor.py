"""Notice what goes wrong while a run learns: at once what is not finite, in time what fails slowly."""

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.config import TrainingConfig
from training.failure_modes import FAILURE_MODES, is_unchanged

MAX_PENDING_STEPS = 8  # steps that the device may be behind the host before it is waited for
SATURATED = 0.02  # a loss of a discriminator below which it is always right
LOSS_EMA_DECAY = (
    0.99  # share of the past in a running mean of losses: half of it is gone after 69 steps
)
MIN_STEPS = 200  # steps before a running mean says anything
CONSECUTIVE = 2  # times in a row that a symptom must be seen: what passes is not worth a line


class NonFiniteError(Exception):
    """A loss or gradient that is no number: which, and in which step."""

    def __init__(self, what: str, step: int, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.what = what
        self.step = step


@dataclass(frozen=True)
class _Pending:
    """The values of a step on their way to the host."""

    step: int
    names: list[str]
    values: Tensor
    copied: torch.cuda.Event | None


class TrainingMonitor:
    """Judges every step, as soon as its losses have come over, and the pictures of every evaluation.

    Nothing waits for the device: a step's losses and gradient norms travel in one copy beside the steps
    that follow, and are judged when they are there, at the latest before anything is logged or saved.
    """

    def __init__(
        self, config: TrainingConfig, device: torch.device, same_step_on_all_ranks: bool = False,
        discriminator_losses: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Judge as `config` says; `in_step` judges each step at the same later one in all processes."""
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
        """Say whether the run goes back to a checkpoint where it cannot go on."""
        return self.policy == "rollback"

    def push(self, step: int, losses: Mapping[str, Tensor], norms: Mapping[str, Tensor]) -> None:
        """Take a step's losses and gradient norms; NotFinite where an earlier or this one failed."""
        names = [*losses, *(f"gradients/{name}" for name in norms)]
        values = torch.stack([x.detach().float() for x in (*losses.values(), *norms.values())])
        arrived = None
        if self.device.type == "cuda":
            values = torch.empty_like(values, device="cpu", pin_memory=True).copy_(
                values, non_blocking=True
            )
            arrived = torch.cuda.Event()
            arrived.record()
        self._pending.append(_Pending(step, names, values, arrived))
        while self._pending:
            first = self._pending[0]
            if first.copied is not None and (
                self.same_step_on_all_ranks or not first.copied.query()
            ):
                if len(self._pending) <= MAX_PENDING_STEPS:
                    break
                first.copied.synchronize()
            self._check(self._pending.popleft())

    def drain(self) -> None:
        """Judge every step so far, waiting for the device where it is behind."""
        while self._pending:
            if (arrived := self._pending[0].copied) is not None:
                arrived.synchronize()
            self._check(self._pending.popleft())

    def reset(self) -> None:
        """Judge nothing that was taken up to now: the run goes on from an earlier step."""
        self._pending.clear()
        self.consecutive_skips = 0

    def values(self) -> dict[str, float]:
        """Return the losses and gradient norms of the newest step, those that are numbers."""
        self.drain()
        return {name: value for name, value in self._latest.items() if math.isfinite(value)}

    def check_images(self, step: int, rows: Mapping[str, Sequence[Sequence[Tensor]]],
             reals: Mapping[str, Sequence[Tensor]]) -> None:  # fmt: skip
        """Look at translated images: direction -> rows of [real, fake, ...], and real ones of its target."""
        for direction, images in rows.items():
            sources, fakes = ([row[place] for row in images] for place in (0, 1))
            source, target = direction.split("_to_")
            for failure_mode in FAILURE_MODES:
                if source == target and failure_mode.detect is is_unchanged:
                    continue  # giving back what it gets is what it is to learn
                shown = failure_mode.detect(sources, fakes, reals[direction])
                key = (failure_mode.title, direction)
                self._times_seen[key] = self._times_seen.get(key, 0) + 1 if shown else 0
                if self._times_seen[key] >= CONSECUTIVE:
                    self._warn_once(
                        f"{direction}, step {step}: {failure_mode.title}", failure_mode.advice, *key
                    )

    def warnings(self) -> list[tuple[str, str]]:
        """Return what is new, each thing once a run: (what is wrong, what helps)."""
        new, self._new_warnings = self._new_warnings, []
        return new

    def _check(self, arrived: _Pending) -> None:
        self._latest = dict(zip(arrived.names, arrived.values.tolist(), strict=True))
        bad = next((n for n, value in self._latest.items() if not math.isfinite(value)), None)
        if bad is None:
            self.consecutive_skips = 0
            self._track_discriminator_losses(arrived.step)
            return
        self.consecutive_skips += 1
        of, _, player = bad.rpartition("/")
        subject = f"a gradient of the {player}" if of else f"the loss {bad}"
        what = f"{subject} became {self._latest[bad]} at step {arrived.step}"
        advice = "lower learning_rate, or use runtime.precision=fp32"
        if self.policy != "skip" or self.consecutive_skips > self.limit:
            often = f" ({self.consecutive_skips} steps in a row)" if self.policy == "skip" else ""
            raise NonFiniteError(what + often, arrived.step, advice)
        self._warn_once(f"{what}; the step is left out", advice, "skipped", "")

    def _track_discriminator_losses(self, step: int) -> None:
        """Keep running means of the discriminators' losses; at 0 they are never in doubt."""
        self._steps_checked += 1
        for name, value in self._latest.items():
            if name not in self.discriminator_losses:
                continue
            self._means[name] = (
                LOSS_EMA_DECAY * self._means.get(name, value) + (1 - LOSS_EMA_DECAY) * value
            )
            # Where a loss goes below 0 (wgan), 0 means nothing.
            if self._steps_checked >= MIN_STEPS and 0 <= self._means[name] < SATURATED:
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
