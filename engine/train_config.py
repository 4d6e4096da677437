"""Define and check the options of training, without importing anything heavy."""

from dataclasses import dataclass, field
from typing import Literal

from common.errors import UserError
from engine.schedule import check_durations

SaveError = Literal["raise", "warn"]
OnNonfinite = Literal["raise", "skip", "rollback"]
MAX_BATCH_SIZE = 65_536  # a larger one would exhaust memory before an error could name the option
ValidationMetric = Literal["swd", "color", "spectrum"]  # distances of engine/validation.py


@dataclass(frozen=True)
class TrainingConfig:
    """Length, optimizer, EMA, checkpoints and validation of a run."""

    seed: int = 0  # of all randomness; same seed, options and data: same run
    duration: str = "200 epochs"  # N epochs (passes through the larger domain) or N steps
    decay_after: str = "50%"  # then the learning rate falls linearly to 0: N epochs, N steps or N%
    batch_size: int = 1  # images of each domain in a step, over all processes
    microbatches: int = 1  # split each batch in N and accumulate gradients: less memory
    learning_rate: float = 0.0002  # Adam's, for every network
    adam_betas: list[float] = field(default_factory=lambda: [0.5, 0.999])  # Adam's beta1, beta2
    weight_decay: float = 0.0  # L2 penalty, added to the gradient
    warm_up: str = "0 steps"  # the learning rate rises from 0 over the first N steps or N epochs
    lr_multipliers: dict[str, float] = field(default_factory=dict)  # GROUP=2: twice learning_rate
    update_every: dict[str, int] = field(default_factory=dict)  # GROUP=5: update every 5th step
    clip_grad_norm: dict[str, float] = field(default_factory=dict)  # GROUP=1: largest L2 norm
    ema_half_life: float = 0.0  # half-life of the EMA of the translators, in images; 0: no EMA
    checkpoint_every: int = 1000  # steps between two checkpoints; one is written at the end
    keep_checkpoints: int = 2  # the newest N are kept, and the best
    on_nonfinite: OnNonfinite = "raise"  # at NaN or infinity: stop, skip the step, or roll back
    nonfinite_limit: int = 10  # steps skipped in a row, or roll-backs in all, before it stops
    on_save_error: SaveError = "raise"  # warn: go on without a checkpoint that could not be saved
    validate_every: int = 0  # steps between two validations; 0: at each checkpoint
    validation_metrics: list[ValidationMetric] = field(default_factory=lambda: ["swd"])  # 1st ranks
    validation_images: int = 16  # images of data.validation, else of training, to score; 0: none

    def __post_init__(self) -> None:
        check_durations(self.duration, self.decay_after, self.warm_up)
        for option in ("lr_multipliers", "update_every", "clip_grad_norm"):
            for group, value in getattr(self, option).items():
                if value <= 0:
                    raise UserError(
                        f"{option}.{group} must be more than 0, got {value}",
                        option=f"{option}.{group}",
                    )
        for option in ("batch_size", "learning_rate", "checkpoint_every", "keep_checkpoints"):
            if (value := getattr(self, option)) <= 0:
                raise UserError(f"{option} must be more than 0, got {value}", option=option)
        if self.batch_size > MAX_BATCH_SIZE:
            raise UserError(
                f"batch_size must be at most {MAX_BATCH_SIZE}, got {self.batch_size}",
                option="batch_size",
            )
        if self.microbatches < 1 or self.batch_size % self.microbatches:
            raise UserError(
                f"microbatches must divide batch_size={self.batch_size}, got {self.microbatches}",
                option="microbatches",
            )
        if self.seed >= 2**63:
            raise UserError(f"seed must be below 2^63, got {self.seed}", option="seed")
        for option in (
            "seed",
            "weight_decay",
            "ema_half_life",
            "validate_every",
            "validation_images",
            "nonfinite_limit",
        ):
            if (value := getattr(self, option)) < 0:
                raise UserError(f"{option} must be 0 or more, got {value}", option=option)
        if not self.validation_metrics:
            raise UserError(
                "validation_metrics is empty; name one, or disable validation: validation_images=0",
                option="validation_metrics",
            )
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            raise UserError(
                f"adam_betas must be two numbers in [0, 1), got {self.adam_betas}",
                option="adam_betas",
            )
