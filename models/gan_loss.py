"""The game against one discriminator, with everything that keeps it stable."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from models.augmentation import DiffAugmentOp, diff_augment
from models.checks import at_least
from models.losses.adversarial import GAN_MODES, SMOOTHED, GANMode
from models.losses.penalty import r1, squared_gradients, wgan_gp, zero_centered_gp
from models.networks.discriminators.batch_head_discriminator import BatchHeadDiscriminator
from models.networks.layers.kernels import eager_kernels

PenaltyName = Literal["none", "r1", "wgan_gp", "zero_centered"]
PenaltyScores = Literal["sum", "mean"]
AugmentMode = Literal["none", "always", "adaptive"]
DIFFAUGMENT_OPS: tuple[DiffAugmentOp, ...] = ("color", "translation", "cutout")
ADAPT_STEPS = 4  # between two looks at how sure a discriminator is (Karras et al. 2020, Sec. 3)
ADAPT_IMAGES = 500_000  # in which the probability can rise from 0 to 1


def default_policy() -> list[DiffAugmentOp]:
    """Return every augmentation."""
    return [*DIFFAUGMENT_OPS]


@dataclass(frozen=True)
class GANLossConfig:
    """What a method with discriminators can be told about their game; its Config inherits it."""

    gan_mode: GANMode = "lsgan"  # adversarial objective
    adversarial_weight: float = 1.0  # weight of the generator's adversarial loss; 0 disables it
    discriminator_weight: float = 1.0  # of the discriminator's loss; 2 undoes LSGAN's factor 1/2
    penalty: PenaltyName = "none"  # gradient penalty: r1 at reals; others between real and fake
    penalty_weight: float = 10.0  # gamma of r1, lambda of wgan_gp and zero_centered
    penalty_scores: PenaltyScores = "sum"  # over an image's patch scores, before the gradient
    penalty_every: int = 1  # apply it every N steps, N times as strong (lazy regularization)
    label_smoothing: float = 0.0  # the label of real images is 1 minus this; lsgan and vanilla
    instance_noise: float = 0.0  # std of noise on discriminator inputs, for images in [-1, 1]
    noise_half_life: int = 1000  # steps in which that noise halves
    augment: AugmentMode = "none"  # discriminator inputs: always (DiffAugment), adaptive (ADA)
    diffaug_policy: list[DiffAugmentOp] = field(default_factory=default_policy)  # augmentations
    augment_target: float = 0.6  # ADA's target for r_t, the mean sign of real scores; 0 to 1

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
        if self.label_smoothing and self.gan_mode not in SMOOTHED:
            raise ValueError(
                f"method.label_smoothing has no meaning for gan_mode={self.gan_mode}, "
                f"whose scores have no label; use {' or '.join(SMOOTHED)}"
            )
        if not 0 <= self.augment_target < 1:
            raise ValueError(f"method.augment_target must be in [0, 1), got {self.augment_target}")
        if self.augment == "adaptive" and self.gan_mode == "wgan":
            raise ValueError(
                "method.augment=adaptive asks how often reals are known, which scores of gan_mode=wgan "
                "do not say; use method.augment=always"
            )
        if self.augment != "none" and not self.diffaug_policy:
            raise ValueError("method.diffaug_policy is empty; method.augment=none augments nothing")


class GANLoss(nn.Module):
    """Score images as the options say, and turn scores into what either side minimises.

    A discriminator gives a tensor of scores, or a list of them (one a scale), which are added up.
    """

    ada_p: Tensor  # of each augmentation, where it adapts
    ada_sign_sums: Tensor  # of reals: its sum since the last change, and of how many looks

    def __init__(self, config: GANLossConfig, domain: str) -> None:
        """Play for `domain`, whose name ends those of the losses."""
        super().__init__()
        self.config = config
        self.domain = domain
        self.noise_std: Tensor | None = None  # of the noise, where a step is recorded
        # engine/runtime.py: where several processes share a batch, the mean over them.
        self.all_reduce_mean: Callable[[Tensor], Tensor] = identity
        self.world_size = 1
        if config.augment == "adaptive":
            self.register_buffer("ada_p", torch.zeros(()))
            self.register_buffer("ada_sign_sums", torch.zeros(2))

    def generator_loss(self, discriminator: nn.Module, fake: Tensor, step: int) -> Tensor:
        """Return what a generator of `fake` [B, C, H, W] minimises, its weight applied."""
        gan_mode = GAN_MODES[self.config.gan_mode]
        return self.config.adversarial_weight * _added(
            [
                gan_mode.generator(scores)
                for scores in self._scores(discriminator, fake, step, real=0.0)
            ]
        )

    def discriminator_losses(
        self, discriminator: nn.Module, real: Tensor, fake: Tensor, step: int
    ) -> dict[str, Tensor]:
        """Return the terms that `discriminator` minimises on images [B, C, H, W]; no gradient reaches `fake`."""
        fake = fake.detach()
        # First: a discriminator with a memory then compares the mixture with the same past as its parts.
        penalty = (
            self._penalty(discriminator, real, fake, step) if self.has_penalty_at(step) else None
        )
        of_real = self._scores(discriminator, real, step, real=1.0, remember=True)
        of_fake = self._scores(discriminator, fake, step, real=0.0, remember=True)
        self._adapt(of_real, len(real))
        terms = {
            self.discriminator_term: self.config.discriminator_weight
            * _added([self._adversarial_loss(x, y) for x, y in zip(of_real, of_fake, strict=True)])
        }
        if penalty is not None:
            terms[f"penalty_{self.domain}"] = penalty
        return terms

    @property
    def discriminator_term(self) -> str:
        """Return the name of the discriminator's adversarial loss in logs."""
        return f"discriminator_{self.domain}"

    @property
    def has_penalty(self) -> bool:
        """Say whether any step has a penalty."""
        return self.config.penalty != "none" and self.config.penalty_weight > 0

    @property
    def penalty_period(self) -> int:
        """Return every how many steps there is a penalty; 1 where there is none."""
        return self.config.penalty_every if self.has_penalty else 1

    def has_penalty_at(self, step: int) -> bool:
        """Say whether step number `step` has a penalty; lazily it does not (Karras et al. 2020)."""
        return self.has_penalty and step % self.config.penalty_every == 0

    def prepare_cuda_graph_inputs(self, step: int, device: torch.device) -> None:
        """Put what differs from step to step where a recorded step reads it."""
        if self.config.instance_noise:
            if self.noise_std is None:
                self.noise_std = torch.zeros((), device=device)
            self.noise_std.fill_(self._noise(step))

    def _adversarial_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        name, smoothing = self.config.gan_mode, self.config.label_smoothing
        if smoothing:
            return SMOOTHED[name](real, fake, 1 - smoothing)
        return GAN_MODES[name].discriminator(real, fake)

    def _penalty(self, discriminator: nn.Module, real: Tensor, fake: Tensor, step: int) -> Tensor:
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
        with eager_kernels(discriminator), borrow_batch_norm_statistics(discriminator):
            scores = self._scores(discriminator, images, step, share, plain=True)
            if config.penalty_scores == "mean":
                scores = [score.float().flatten(1).mean(dim=1) for score in scores]
            squared = squared_gradients(scores, images)
        measure = {"r1": r1, "wgan_gp": wgan_gp, "zero_centered": zero_centered_gp}[config.penalty]
        return config.penalty_weight * config.penalty_every * measure(squared)

    def _scores(
        self, discriminator: nn.Module, images: Tensor, step: int, real: float | Tensor,
        remember: bool = False, plain: bool = False,
    ) -> Sequence[Tensor]:  # fmt: skip
        """Return scores, one tensor a scale, of images of which a share of `real` is real.

        `plain` calls the network past what was compiled for it.
        """
        call = discriminator.forward if plain else discriminator
        seen = self._augment_inputs(images, step)
        if isinstance(discriminator, BatchHeadDiscriminator):
            return [call(seen, real, remember)]
        return _scales(call(seen))

    def _augment_inputs(self, images: Tensor, step: int) -> Tensor:
        """Return images as a discriminator sees them."""
        config = self.config
        if config.instance_noise:  # Soenderby et al. 2017, arXiv:1610.04490
            noise_std = self._noise(step) if self.noise_std is None else self.noise_std
            images = images + noise_std * torch.randn_like(images)
        if config.augment == "always":
            images = diff_augment(images, config.diffaug_policy)
        elif config.augment == "adaptive":
            images = diff_augment(images, config.diffaug_policy, self.ada_p)
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
        middle = label / 2 if self.config.gan_mode == "lsgan" else 0.0
        sure = torch.stack([(score.float() - middle).sign().mean() for score in scores]).mean()
        sure = self.all_reduce_mean(sure)
        self.ada_sign_sums += torch.stack([sure.nan_to_num(), torch.ones_like(sure)])
        looks = self.ada_sign_sums[1] >= ADAPT_STEPS  # on the device: nothing waits for it
        too_sure = (
            self.ada_sign_sums[0] / self.ada_sign_sums[1] - self.config.augment_target
        ).sign()
        change = too_sure * (images * self.world_size * ADAPT_STEPS / ADAPT_IMAGES)
        self.ada_p.add_(torch.where(looks, change, 0.0)).clamp_(0, 1)
        self.ada_sign_sums.mul_(~looks)


@contextmanager
def borrow_batch_norm_statistics(network: nn.Module) -> Iterator[None]:
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


def identity(values: Tensor) -> Tensor:
    """Return what was given: the mean of one."""
    return values


def _scales(scores: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [scores] if isinstance(scores, Tensor) else scores


def _added(terms: Sequence[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).sum()
