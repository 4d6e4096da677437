"""Notice what goes wrong while a run learns: at once what is not finite, in time what fails slowly."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.config import TrainingConfig
from training.failure_modes import SYMPTOMS, unchanged

BEHIND = 8  # steps that the device may be behind the host before it is waited for
SATURATED = 0.02  # a loss of a discriminator below which it is always right
MEMORY = 0.99  # share of the past in a running mean of losses: half of it is gone after 69 steps
LEAST = 200  # steps before a running mean says anything
LOOKS = 2  # times in a row that a symptom must be seen: what passes is not worth a line


class NotFinite(Exception):
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
    arrived: torch.cuda.Event | None


class Watchdog:
    """Judges every step, as soon as its losses have come over, and the pictures of every evaluation.

    Nothing waits for the device: a step's losses and gradient norms travel in one copy beside the steps
    that follow, and are judged when they are there, at the latest before anything is logged or saved.
    """

    def __init__(self, config: TrainingConfig, device: torch.device, in_step: bool = False) -> None:
        """Judge as `config` says; `in_step` judges each step at the same later one in all processes."""
        self.policy = config.not_finite
        self.limit = config.not_finite_limit
        self.device = device
        self.in_step = in_step
        self.in_a_row = 0
        self._pending: deque[_Pending] = deque()
        self._newest: dict[str, float] = {}
        self._means: dict[str, float] = {}
        self._judged = 0
        self._seen: dict[tuple[str, str], int] = {}
        self._told: set[str] = set()
        self._news: list[tuple[str, str]] = []

    @property
    def returns(self) -> bool:
        """Say whether the run goes back to a checkpoint where it cannot go on."""
        return self.policy == "rollback"

    def note(self, step: int, losses: Mapping[str, Tensor], norms: Mapping[str, Tensor]) -> None:
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
            if first.arrived is not None and (self.in_step or not first.arrived.query()):
                if len(self._pending) <= BEHIND:
                    break
                first.arrived.synchronize()
            self._judge(self._pending.popleft())

    def settle(self) -> None:
        """Judge every step so far, waiting for the device where it is behind."""
        while self._pending:
            if (arrived := self._pending[0].arrived) is not None:
                arrived.synchronize()
            self._judge(self._pending.popleft())

    def forget(self) -> None:
        """Judge nothing that was taken up to now: the run goes on from an earlier step."""
        self._pending.clear()
        self.in_a_row = 0

    def values(self) -> dict[str, float]:
        """Return the losses and gradient norms of the newest step, those that are numbers."""
        self.settle()
        return {name: value for name, value in self._newest.items() if math.isfinite(value)}

    def look(self, step: int, rows: Mapping[str, Sequence[Sequence[Tensor]]],
             reals: Mapping[str, Sequence[Tensor]]) -> None:  # fmt: skip
        """Look at translated images: direction -> rows of [real, fake, ...], and real ones of its target."""
        for direction, images in rows.items():
            sources, fakes = ([row[place] for row in images] for place in (0, 1))
            source, target = direction.split("_to_")
            for symptom in SYMPTOMS:
                if source == target and symptom.shown is unchanged:
                    continue  # giving back what it gets is what it is to learn
                shown = symptom.shown(sources, fakes, reals[direction])
                key = (symptom.title, direction)
                self._seen[key] = self._seen.get(key, 0) + 1 if shown else 0
                if self._seen[key] >= LOOKS:
                    self._tell(f"{direction}, step {step}: {symptom.title}", symptom.advice, *key)

    def warnings(self) -> list[tuple[str, str]]:
        """Return what is new, each thing once a run: (what is wrong, what helps)."""
        news, self._news = self._news, []
        return news

    def _judge(self, arrived: _Pending) -> None:
        self._newest = dict(zip(arrived.names, arrived.values.tolist(), strict=True))
        bad = next((n for n, value in self._newest.items() if not math.isfinite(value)), None)
        if bad is None:
            self.in_a_row = 0
            self._follow(arrived.step)
            return
        self.in_a_row += 1
        of, _, player = bad.rpartition("/")
        subject = f"a gradient of the {player}" if of else f"the loss {bad}"
        what = f"{subject} became {self._newest[bad]} at step {arrived.step}"
        advice = "lower learning_rate, or use runtime.precision=fp32"
        if self.policy != "skip" or self.in_a_row > self.limit:
            often = f" ({self.in_a_row} steps in a row)" if self.policy == "skip" else ""
            raise NotFinite(what + often, arrived.step, advice)
        self._tell(f"{what}; the step is left out", advice, "skipped", "")

    def _follow(self, step: int) -> None:
        """Keep running means of the discriminators' losses; at 0 they are never in doubt."""
        self._judged += 1
        for name, value in self._newest.items():
            if not name.startswith("discriminator"):
                continue
            self._means[name] = MEMORY * self._means.get(name, value) + (1 - MEMORY) * value
            # Where a loss goes below 0 (wgan), 0 means nothing.
            if self._judged >= LEAST and 0 <= self._means[name] < SATURATED:
                self._tell(
                    f"{name} has been near 0 up to step {step}: the discriminator is never in doubt, "
                    "and the generator learns nothing from it",
                    "try fewer method.discriminator.layers, more images, or a lower learning_rate",
                    "saturated", name,
                )  # fmt: skip

    def _tell(self, title: str, advice: str, *key: str) -> None:
        if (name := "/".join(key)) not in self._told:
            self._told.add(name)
            self._news.append((title, advice))
