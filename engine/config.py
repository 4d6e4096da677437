"""What the trainer can be told; it imports nothing heavy, so that a mistake is answered at once."""

from dataclasses import dataclass, field
from typing import Literal

from common.errors import UserError
from engine.schedule import check_durations

SaveError = Literal["raise", "warn"]
OnNonfinite = Literal["raise", "skip", "rollback"]
MAX_BATCH_SIZE = 65_536  # of a batch: beyond it the machine ends the run, not a line of ours
ValidationMetric = Literal["swd", "colour", "spectrum"]  # distances of engine/validation.py


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how a run learns, and how often it saves itself."""

    seed: int = 0  # the run is a function of this, the options and the data
    duration: str = "200 epochs"  # N epochs (passes through the larger domain) or N steps
    decay_after: str = "50%"  # then the rate falls to zero, linearly: N epochs, N steps or N%
    batch_size: int = 1  # images of each domain in a step, of all processes together
    accumulate: int = 1  # parts that a batch is computed in, one after the other: less memory
    learning_rate: float = 0.0002  # Adam's, for every network
    adam_betas: list[float] = field(default_factory=lambda: [0.5, 0.999])  # Adam's momenta
    weight_decay: float = 0.0  # times each weight, added to its gradient: draws weights to zero
    warm_up: str = "0 steps"  # the rate rises from zero over the first N steps or N epochs
    rates: dict[str, float] = field(default_factory=dict)  # rates.PLAYER=2 learns twice as fast
    every: dict[str, int] = field(default_factory=dict)  # every.PLAYER=5 moves it each fifth step
    clip_norm: dict[str, float] = field(default_factory=dict)  # clip_norm.PLAYER=1: of its gradient
    ema_half_life: float = 0.0  # average translators over so many images; 0: the last weights
    checkpoint_every: int = 1000  # steps between two checkpoints; one comes at the end
    keep_checkpoints: int = 2  # how many of the newest to keep, beside the best
    not_finite: OnNonfinite = "raise"  # such a step stops the run, is skipped, or rolled back
    not_finite_limit: int = 10  # steps skipped in a row, or rolled back in all, before it stops
    on_save_error: SaveError = "raise"  # warn goes on without the checkpoint that did not fit
    evaluate_every: int = 0  # steps between two scores of the translators; 0: at each checkpoint
    scores: list[ValidationMetric] = field(
        default_factory=lambda: ["swd"]
    )  # the first chooses the best
    score_images: int = 16  # images of data.validation, or of training, that are scored; 0: none

    def __post_init__(self) -> None:
        check_durations(self.duration, self.decay_after, self.warm_up)
        for option in ("rates", "every", "clip_norm"):
            for player, value in getattr(self, option).items():
                if value <= 0:
                    raise UserError(f"{option}.{player} must be more than 0, got {value}")
        positive = ("batch_size", "learning_rate", "checkpoint_every", "keep_checkpoints")
        for option in positive:
            if getattr(self, option) <= 0:
                raise UserError(f"{option} must be more than 0, got {getattr(self, option)}")
        if self.batch_size > MAX_BATCH_SIZE:
            raise UserError(f"batch_size must be at most {MAX_BATCH_SIZE}, got {self.batch_size}")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise UserError(
                f"accumulate must divide batch_size={self.batch_size}, got {self.accumulate}"
            )
        if self.seed >= 2**63:
            raise UserError(f"seed must be below 2^63, got {self.seed}")
        for option in (
            "seed",
            "weight_decay",
            "ema_half_life",
            "evaluate_every",
            "score_images",
            "not_finite_limit",
        ):
            if getattr(self, option) < 0:
                raise UserError(f"{option} must be 0 or more, got {getattr(self, option)}")
        if not self.scores:
            raise UserError("scores is empty; score_images=0 scores nothing")
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            raise UserError(f"adam_betas must be two numbers in [0, 1), got {self.adam_betas}")
