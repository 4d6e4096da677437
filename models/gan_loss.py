"""The adversarial loss against one discriminator, with its penalties and augmentations."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from models.augmentation import DiffAugmentOp, diff_augment
from models.checks import check_at_least
from models.losses.adversarial import GAN_MODES, SMOOTHABLE_LOSSES, GANMode
from models.losses.gradient_penalty import r1, squared_gradients, wgan_gp, zero_centered_gp
from models.networks.discriminators.batch_head_discriminator import BatchHeadDiscriminator
from models.networks.layers.op_backends import eager_kernels

PenaltyName = Literal["none", "r1", "wgan_gp", "zero_centered"]
PenaltyScores = Literal["sum", "mean"]
AugmentMode = Literal["none", "always", "adaptive"]
DIFFAUGMENT_OPS: tuple[DiffAugmentOp, ...] = ("color", "translation", "cutout")
ADA_INTERVAL = 4  # steps between two updates of ADA's p (Karras et al. 2020, Sec. 3)
ADA_IMAGES = 500_000  # real images in which p can rise from 0 to 1 (Karras et al. 2020, Sec. 3)


def default_policy() -> list[DiffAugmentOp]:
    """Return all augmentations of DiffAugment."""
    return [*DIFFAUGMENT_OPS]


@dataclass(frozen=True)
class GANLossConfig:
    """Options of the adversarial loss; the Config of a method with discriminators inherits them."""

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
        check_at_least(0, self, "adversarial_weight", "penalty_weight", "instance_noise")
        if self.discriminator_weight <= 0:
            raise ValueError(
                f"method.discriminator_weight must be more than 0, got {self.discriminator_weight}"
            )
        check_at_least(1, self, "penalty_every", "noise_half_life")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(
                f"method.label_smoothing must be in [0, 0.5), got {self.label_smoothing}"
            )
        if self.label_smoothing and self.gan_mode not in SMOOTHABLE_LOSSES:
            raise ValueError(
                f"method.label_smoothing needs a loss with labels, which gan_mode={self.gan_mode} "
                f"does not have; use method.gan_mode={' or '.join(SMOOTHABLE_LOSSES)}"
            )
        if not 0 <= self.augment_target < 1:
            raise ValueError(f"method.augment_target must be in [0, 1), got {self.augment_target}")
        if self.augment == "adaptive" and self.gan_mode == "wgan":
            raise ValueError(
                "method.augment=adaptive needs scores that classify images as real or fake, which "
                "gan_mode=wgan does not give; use method.augment=always"
            )
        if self.augment != "none" and not self.diffaug_policy:
            raise ValueError("method.diffaug_policy is empty; use method.augment=none")


class GANLoss(nn.Module):
    """Compute the losses of a generator and of its discriminator from scores of images.

    A discriminator returns a tensor of scores, or a list with one tensor for each scale; the losses
    of the scales are added up.
    """

    ada_p: Tensor  # ADA: the probability of each augmentation
    ada_sign_sums: Tensor  # ADA, since the last update of p: sum of sign means, number of steps

    def __init__(self, config: GANLossConfig, domain: str) -> None:
        """Take the options and `domain`, the suffix of the names of the losses."""
        super().__init__()
        self.config = config
        self.domain = domain
        self.noise_std: Tensor | None = None  # of instance noise; a captured CUDA graph reads it
        # Replaced by engine/runtime.py where several processes share a batch.
        self.all_reduce_mean: Callable[[Tensor], Tensor] = identity
        self.world_size = 1
        if config.augment == "adaptive":
            self.register_buffer("ada_p", torch.zeros(()))
            self.register_buffer("ada_sign_sums", torch.zeros(2))

    def generator_loss(self, discriminator: nn.Module, fake: Tensor, step: int) -> Tensor:
        """Return the generator's loss for `fake` [B, C, H, W], with its weight applied."""
        loss = GAN_MODES[self.config.gan_mode].generator
        scores = self._scores(discriminator, fake, step, real_fraction=0.0)
        return self.config.adversarial_weight * _sum([loss(scale) for scale in scores])

    def discriminator_losses(
        self, discriminator: nn.Module, real: Tensor, fake: Tensor, step: int
    ) -> dict[str, Tensor]:
        """Return the discriminator's loss terms, name -> scalar, for images [B, C, H, W].

        No gradient reaches `fake`.
        """
        fake = fake.detach()
        # Before the scores, so that a discriminator with feature queues compares the interpolated
        # images with the same past features as the real and fake ones.
        penalty = None
        if self.has_penalty_at(step):
            penalty = self._penalty(discriminator, real, fake, step)
        real_scores = self._scores(discriminator, real, step, real_fraction=1.0, remember=True)
        fake_scores = self._scores(discriminator, fake, step, real_fraction=0.0, remember=True)
        self._update_ada_p(real_scores, len(real))
        scales = zip(real_scores, fake_scores, strict=True)
        loss = _sum([self._discriminator_loss(*scores) for scores in scales])
        terms = {self.discriminator_term: self.config.discriminator_weight * loss}
        if penalty is not None:
            terms[f"penalty_{self.domain}"] = penalty
        return terms

    @property
    def discriminator_term(self) -> str:
        """Return the name of the discriminator's adversarial loss in logs."""
        return f"discriminator_{self.domain}"

    @property
    def has_penalty(self) -> bool:
        """Return whether any step has a gradient penalty."""
        return self.config.penalty != "none" and self.config.penalty_weight > 0

    @property
    def penalty_period(self) -> int:
        """Return N where every Nth step has a gradient penalty; 1 without a penalty."""
        return self.config.penalty_every if self.has_penalty else 1

    def has_penalty_at(self, step: int) -> bool:
        """Return whether step number `step` has a gradient penalty.

        With lazy regularization only every `penalty_every`-th step does (Karras et al. 2020).
        """
        return self.has_penalty and step % self.config.penalty_every == 0

    def prepare_cuda_graph_inputs(self, step: int, device: torch.device) -> None:
        """Write this step's noise level into the tensor that a captured CUDA graph reads."""
        if self.config.instance_noise:
            if self.noise_std is None:
                self.noise_std = torch.zeros((), device=device)
            self.noise_std.fill_(self._noise_std_at(step))

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss for the scores of one scale, with label smoothing where it is on."""
        name, smoothing = self.config.gan_mode, self.config.label_smoothing
        if smoothing:
            return SMOOTHABLE_LOSSES[name](real, fake, 1 - smoothing)
        return GAN_MODES[name].discriminator(real, fake)

    def _penalty(self, discriminator: nn.Module, real: Tensor, fake: Tensor, step: int) -> Tensor:
        """Return the weighted gradient penalty: at real images, or between real and fake."""
        config = self.config
        real_fraction: float | Tensor = 1.0  # weight of the real images in the interpolation
        if config.penalty == "r1":
            images = real.detach().float()
        else:
            shape = (len(real) if config.penalty == "wgan_gp" else 1, 1, 1, 1)
            real_fraction = torch.rand(shape, device=real.device)
            images = torch.lerp(fake.float(), real.detach().float(), real_fraction)
        images.requires_grad_()
        # Compiled kernels have no second derivative.
        with eager_kernels(discriminator), alias_batch_norm_statistics(discriminator):
            scores = self._scores(discriminator, images, step, real_fraction, compiled=False)
            if config.penalty_scores == "mean":
                scores = [score.float().flatten(1).mean(dim=1) for score in scores]
            squared = squared_gradients(scores, images)
        penalty = {"r1": r1, "wgan_gp": wgan_gp, "zero_centered": zero_centered_gp}[config.penalty]
        return config.penalty_weight * config.penalty_every * penalty(squared)

    def _scores(
        self, discriminator: nn.Module, images: Tensor, step: int, real_fraction: float | Tensor,
        remember: bool = False, compiled: bool = True,
    ) -> Sequence[Tensor]:  # fmt: skip
        """Return the scores of images, one tensor for each scale.

        `real_fraction` is 1 for real images, 0 for fakes, between for interpolated ones. `remember`
        lets a discriminator with feature queues store the features. With `compiled` False the
        network runs eagerly even where it was compiled.
        """
        network = discriminator if compiled else discriminator.forward
        inputs = self._augment_inputs(images, step)
        if isinstance(discriminator, BatchHeadDiscriminator):
            return [network(inputs, real_fraction, remember)]
        scores = network(inputs)
        return [scores] if isinstance(scores, Tensor) else scores

    def _augment_inputs(self, images: Tensor, step: int) -> Tensor:
        """Return the discriminator's inputs: images with instance noise and augmentation."""
        config = self.config
        if config.instance_noise:  # Soenderby et al. 2017, arXiv:1610.04490
            noise_std = self._noise_std_at(step) if self.noise_std is None else self.noise_std
            images = images + noise_std * torch.randn_like(images)
        if config.augment == "always":
            images = diff_augment(images, config.diffaug_policy)
        elif config.augment == "adaptive":
            images = diff_augment(images, config.diffaug_policy, self.ada_p)
        return images

    def _noise_std_at(self, step: int) -> float:
        return self.config.instance_noise * 0.5 ** (step / self.config.noise_half_life)

    @torch.no_grad()
    def _update_ada_p(self, real_scores: Sequence[Tensor], batch_size: int) -> None:
        """Raise ADA's p where r_t is above its target, lower it where r_t is below.

        Karras et al. 2020 (arXiv:2006.06676, Eq. 1): r_t = E[sign D(real)], here relative to the
        middle between the two labels.
        """
        if self.config.augment != "adaptive":
            return
        label = 1 - self.config.label_smoothing
        middle = label / 2 if self.config.gan_mode == "lsgan" else 0.0
        signs = torch.stack([(scale.float() - middle).sign().mean() for scale in real_scores])
        mean_sign = self.all_reduce_mean(signs.mean())
        self.ada_sign_sums += torch.stack([mean_sign.nan_to_num(), torch.ones_like(mean_sign)])
        sign_sum, steps = self.ada_sign_sums
        is_due = steps >= ADA_INTERVAL  # a tensor: the CPU does not wait for the device
        direction = (sign_sum / steps - self.config.augment_target).sign()  # r_t against its target
        change = direction * (batch_size * self.world_size * ADA_INTERVAL / ADA_IMAGES)
        self.ada_p.add_(torch.where(is_due, change, 0.0)).clamp_(0, 1)
        self.ada_sign_sums.mul_(~is_due)


@contextmanager
def alias_batch_norm_statistics(network: nn.Module) -> Iterator[None]:
    """Replace the running statistics of batch norms, inside this context, by aliases of them.

    An alias shares the memory, so the statistics are updated as usual, but it has a version counter
    of its own. Autograd saves the running statistics for backward, although training reads only the
    batch's. An eager forward updates them without raising the counter, a later compiled forward
    raises it, and backward would then fail.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    originals = [(norm.running_mean, norm.running_var) for norm in norms]
    try:
        for norm, (mean, variance) in zip(norms, originals, strict=True):
            norm.running_mean = None if mean is None else mean.data
            norm.running_var = None if variance is None else variance.data
        yield
    finally:
        for norm, (mean, variance) in zip(norms, originals, strict=True):
            norm.running_mean, norm.running_var = mean, variance


def identity(values: Tensor) -> Tensor:
    """Return the values unchanged: the mean over one process."""
    return values


def _sum(terms: Sequence[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).sum()
