"""The game against one discriminator, with everything that keeps it stable."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from models.augmentation import AugmentKind, augmented
from models.checks import at_least
from models.losses.adversarial import OBJECTIVES, SMOOTHED, ObjectiveName
from models.losses.penalty import one_centred, r1, squared_gradients, zero_centred
from models.networks.discriminators.batch_head_discriminator import BatchHeadDiscriminator
from models.networks.layers.norm_act_pad import (
    NormActPad,
    ReflectPad,
    instance_norm_act_pad,
    reflect_pad,
)

PenaltyName = Literal["none", "r1", "wgan_gp", "zero_centred"]
PenaltyScores = Literal["sum", "mean"]
AugmentMode = Literal["none", "always", "adaptive"]
KINDS: tuple[AugmentKind, ...] = ("colour", "shift", "cutout")
ADAPT_STEPS = 4  # between two looks at how sure a discriminator is (Karras et al. 2020, Sec. 3)
ADAPT_IMAGES = 500_000  # in which the probability can rise from 0 to 1


@dataclass(frozen=True)
class AdversaryConfig:
    """What a method with discriminators can be told about their game; its Config inherits it."""

    objective: ObjectiveName = "lsgan"  # what discriminators learn
    adversarial_weight: float = 1.0  # weight of fooling them; 0 leaves it out
    discriminator_weight: float = 1.0  # of telling apart; 2 is lsgan without its half
    penalty: PenaltyName = "none"  # on a judge's gradient: r1 at reals, others towards fakes
    penalty_weight: float = 10.0  # gamma of r1, lambda of wgan_gp and zero_centred
    penalty_scores: PenaltyScores = "sum"  # of an image's scores: whose gradient is penalised
    penalty_every: int = 1  # the penalty only every so many steps, as many times as strong
    label_smoothing: float = 0.0  # reals are worth 1 minus this; lsgan and vanilla only
    instance_noise: float = 0.0  # deviation of noise on what discriminators see, images in [-1, 1]
    noise_half_life: int = 1000  # steps in which that noise halves
    augment: AugmentMode = "none"  # what discriminators see: always, or as much as they need
    augment_kinds: list[AugmentKind] = field(default_factory=lambda: [*KINDS])  # which of them
    augment_target: float = 0.6  # adaptive: how sure of reals a discriminator may be, 0 to 1

    def __post_init__(self) -> None:
        at_least(0, self, "adversarial_weight", "penalty_weight", "instance_noise")
        if self.discriminator_weight <= 0:
            raise ValueError(
                f"method.discriminator_weight must be more than 0, got {self.discriminator_weight}"
            )
        at_least(1, self, "penalty_every", "noise_half_life")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(
                f"method.label_smoothing must be in [0, 0.5), got {self.label_smoothing}"
            )
        if self.label_smoothing and self.objective not in SMOOTHED:
            raise ValueError(
                f"method.label_smoothing has no meaning for objective={self.objective}, "
                f"whose scores have no label; use {' or '.join(SMOOTHED)}"
            )
        if not 0 <= self.augment_target < 1:
            raise ValueError(f"method.augment_target must be in [0, 1), got {self.augment_target}")
        if self.augment == "adaptive" and self.objective == "wgan":
            raise ValueError(
                "method.augment=adaptive asks how often reals are known, which scores of objective=wgan "
                "do not say; use method.augment=always"
            )
        if self.augment != "none" and not self.augment_kinds:
            raise ValueError("method.augment_kinds is empty; method.augment=none augments nothing")


class Adversary(nn.Module):
    """Score images as the options say, and turn scores into what either side minimises.

    A discriminator gives a tensor of scores, or a list of them (one a scale), which are added up.
    """

    probability: Tensor  # of each augmentation, where it adapts
    sureness: Tensor  # of reals: its sum since the last change, and of how many looks

    def __init__(self, config: AdversaryConfig, domain: str) -> None:
        """Play for `domain`, whose name ends those of the losses."""
        super().__init__()
        self.config = config
        self.domain = domain
        self.deviation: Tensor | None = None  # of the noise, where a step is recorded
        # engine/runtime.py: where several processes share a batch, the mean over them.
        self.all_reduce_mean: Callable[[Tensor], Tensor] = unchanged
        self.world_size = 1
        if config.augment == "adaptive":
            self.register_buffer("probability", torch.zeros(()))
            self.register_buffer("sureness", torch.zeros(2))

    def generator(self, judge: nn.Module, fake: Tensor, step: int) -> Tensor:
        """Return what a generator of `fake` [B, C, H, W] minimises, its weight applied."""
        objective = OBJECTIVES[self.config.objective]
        return self.config.adversarial_weight * _added(
            [objective.generator(scores) for scores in self._judged(judge, fake, step, real=0.0)]
        )

    def discriminator(
        self, judge: nn.Module, real: Tensor, fake: Tensor, step: int
    ) -> dict[str, Tensor]:
        """Return the terms that `judge` minimises on images [B, C, H, W]; no gradient reaches `fake`."""
        fake = fake.detach()
        # First: a judge with a memory then compares the mixture with the same past as its parts.
        penalty = self._penalty(judge, real, fake, step) if self.penalises(step) else None
        of_real = self._judged(judge, real, step, real=1.0, remember=True)
        of_fake = self._judged(judge, fake, step, real=0.0, remember=True)
        self._adapt(of_real, len(real))
        terms = {
            f"discriminator_{self.domain}": self.config.discriminator_weight
            * _added([self._told_apart(x, y) for x, y in zip(of_real, of_fake, strict=True)])
        }
        if penalty is not None:
            terms[f"penalty_{self.domain}"] = penalty
        return terms

    @property
    def has_penalty(self) -> bool:
        """Say whether any step has a penalty."""
        return self.config.penalty != "none" and self.config.penalty_weight > 0

    @property
    def penalty_period(self) -> int:
        """Return every how many steps there is a penalty; 1 where there is none."""
        return self.config.penalty_every if self.has_penalty else 1

    def penalises(self, step: int) -> bool:
        """Say whether step number `step` has a penalty; lazily it does not (Karras et al. 2020)."""
        return self.has_penalty and step % self.config.penalty_every == 0

    def decide(self, step: int, device: torch.device) -> None:
        """Put what differs from step to step where a recorded step reads it."""
        if self.config.instance_noise:
            if self.deviation is None:
                self.deviation = torch.zeros((), device=device)
            self.deviation.fill_(self._noise(step))

    def _told_apart(self, real: Tensor, fake: Tensor) -> Tensor:
        name, smoothing = self.config.objective, self.config.label_smoothing
        if smoothing:
            return SMOOTHED[name](real, fake, 1 - smoothing)
        return OBJECTIVES[name].discriminator(real, fake)

    def _penalty(self, judge: nn.Module, real: Tensor, fake: Tensor, step: int) -> Tensor:
        config = self.config
        share: float | Tensor = 1.0  # of the real images in what is looked at
        if config.penalty == "r1":
            images = real.detach().float()
        else:
            shape = (len(real) if config.penalty == "wgan_gp" else 1, 1, 1, 1)
            share = torch.rand(shape, device=real.device)
            images = torch.lerp(fake.float(), real.detach().float(), share)
        images.requires_grad_()
        # Compiled kernels have no second derivative.
        with uncompiled(judge), lent_statistics(judge):
            scores = self._judged(judge, images, step, share, plain=True)
            if config.penalty_scores == "mean":
                scores = [score.float().flatten(1).mean(dim=1) for score in scores]
            squared = squared_gradients(scores, images)
        measure = {"r1": r1, "wgan_gp": one_centred, "zero_centred": zero_centred}[config.penalty]
        return config.penalty_weight * config.penalty_every * measure(squared)

    def _judged(
        self, judge: nn.Module, images: Tensor, step: int, real: float | Tensor,
        remember: bool = False, plain: bool = False,
    ) -> Sequence[Tensor]:  # fmt: skip
        """Return scores, one tensor a scale, of images of which a share of `real` is real.

        `plain` calls the network past what was compiled for it.
        """
        call = judge.forward if plain else judge
        seen = self._seen(images, step)
        if isinstance(judge, BatchHeadDiscriminator):
            return [call(seen, real, remember)]
        return _scales(call(seen))

    def _seen(self, images: Tensor, step: int) -> Tensor:
        """Return images as a discriminator sees them."""
        config = self.config
        if config.instance_noise:  # Soenderby et al. 2017, arXiv:1610.04490
            deviation = self._noise(step) if self.deviation is None else self.deviation
            images = images + deviation * torch.randn_like(images)
        if config.augment == "always":
            images = augmented(images, config.augment_kinds)
        elif config.augment == "adaptive":
            images = augmented(images, config.augment_kinds, self.probability)
        return images

    def _noise(self, step: int) -> float:
        return self.config.instance_noise * 0.5 ** (step / self.config.noise_half_life)

    @torch.no_grad()
    def _adapt(self, scores: Sequence[Tensor], images: int) -> None:
        """Augment more where the discriminator is too sure of reals, less where it is not.

        Karras et al. 2020 (arXiv:2006.06676, Eq. 1): r_t = E[sign D(real)], here about the middle
        between the two labels.
        """
        if self.config.augment != "adaptive":
            return
        label = 1 - self.config.label_smoothing
        middle = label / 2 if self.config.objective == "lsgan" else 0.0
        sure = torch.stack([(score.float() - middle).sign().mean() for score in scores]).mean()
        sure = self.all_reduce_mean(sure)
        self.sureness += torch.stack([sure.nan_to_num(), torch.ones_like(sure)])
        looks = self.sureness[1] >= ADAPT_STEPS  # on the device: nothing waits for it
        too_sure = (self.sureness[0] / self.sureness[1] - self.config.augment_target).sign()
        change = too_sure * (images * self.world_size * ADAPT_STEPS / ADAPT_IMAGES)
        self.probability.add_(torch.where(looks, change, 0.0)).clamp_(0, 1)
        self.sureness.mul_(~looks)


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Compute with the plain kernels of a network, whatever engine/runtime.py put in their place."""
    eager = {NormActPad: instance_norm_act_pad, ReflectPad: reflect_pad}
    parts = [part for part in network.modules() if type(part) in eager]
    kernels = [part.kernel for part in parts]
    try:
        for part in parts:
            part.kernel = eager[type(part)]  # pyright: ignore[reportArgumentType]
        yield
    finally:
        for part, kernel in zip(parts, kernels, strict=True):
            part.kernel = kernel


@contextmanager
def lent_statistics(network: nn.Module) -> Iterator[None]:
    """Lend the running statistics of batch norms to what is computed here, as tensors of their own.

    They share the memory, so the statistics move as ever, but not the count of changes by which
    autograd refuses a backward. It keeps the statistics, though in training it reads the batch's; a
    plain forward moves them without counting, and a compiled one after it counts.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    owned = [(norm.running_mean, norm.running_var) for norm in norms]
    try:
        for norm, (mean, variance) in zip(norms, owned, strict=True):
            norm.running_mean = None if mean is None else mean.data
            norm.running_var = None if variance is None else variance.data
        yield
    finally:
        for norm, (mean, variance) in zip(norms, owned, strict=True):
            norm.running_mean, norm.running_var = mean, variance


def unchanged(values: Tensor) -> Tensor:
    """Return what was given: the mean of one."""
    return values


def _scales(scores: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [scores] if isinstance(scores, Tensor) else scores


def _added(terms: Sequence[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).sum()
