"""Adversarial losses: for each GAN mode, one for the generator and one for the discriminator.

Scores are unbounded tensors of any shape; every function returns a float32 scalar, a mean over all
scores.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn.functional import relu, softplus

GANMode = Literal["lsgan", "vanilla", "hinge", "wgan"]


def lsgan_generator(fake: Tensor) -> Tensor:
    """E[(D(G(x)) - 1)^2] (Mao et al. 2017, arXiv:1611.04076; CycleGAN Sec. 4)."""
    return (fake.float() - 1).square().mean()


def lsgan_discriminator(real: Tensor, fake: Tensor, label: float = 1.0) -> Tensor:
    """(E[(D(y) - 1)^2] + E[D(G(x))^2]) / 2: CycleGAN halves it to slow D down (Sec. 7.1).

    `label` is the target for real scores; below 1: label smoothing (Salimans et al. 2016,
    arXiv:1606.03498).
    """
    return 0.5 * ((real.float() - label).square().mean() + fake.float().square().mean())


def vanilla_generator(fake: Tensor) -> Tensor:
    """-E[log sigmoid D(G(x))], the non-saturating form (Goodfellow et al. 2014, Sec. 3)."""
    return softplus(-fake.float()).mean()


def vanilla_discriminator(real: Tensor, fake: Tensor, label: float = 1.0) -> Tensor:
    """-E[log sigmoid D(y)] - E[log(1 - sigmoid D(G(x)))] (Goodfellow et al. 2014, Eq. 1).

    `label` is the target probability of real images; below 1: label smoothing.
    """
    real_loss = softplus(-real.float()).mean()
    if label != 1.0:
        real_loss = label * real_loss + (1 - label) * softplus(real.float()).mean()
    return real_loss + softplus(fake.float()).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """-E[D(G(x))] (Miyato et al. 2018, arXiv:1802.05957, Eq. 17)."""
    return -fake.float().mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 - D(y))] + E[max(0, 1 + D(G(x)))] (Miyato et al. 2018, Eq. 16)."""
    return relu(1 - real.float()).mean() + relu(1 + fake.float()).mean()


def wgan_generator(fake: Tensor) -> Tensor:
    """-E[D(G(x))] (Arjovsky et al. 2017, arXiv:1701.07875, Eq. 3)."""
    return -fake.float().mean()


def wgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[D(G(x))] - E[D(y)] (Arjovsky et al. 2017, Eq. 2); unbounded unless D is Lipschitz."""
    return fake.float().mean() - real.float().mean()


class AdversarialLoss(NamedTuple):
    """A pair of losses: `generator(fake scores)`, `discriminator(real scores, fake scores)`."""

    generator: Callable[[Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]


GAN_MODES: dict[str, AdversarialLoss] = {
    "lsgan": AdversarialLoss(lsgan_generator, lsgan_discriminator),
    "vanilla": AdversarialLoss(vanilla_generator, vanilla_discriminator),
    "hinge": AdversarialLoss(hinge_generator, hinge_discriminator),
    "wgan": AdversarialLoss(wgan_generator, wgan_discriminator),
}

# Discriminator losses that take the label of real images: (real scores, fake scores, label).
SMOOTHABLE_LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "lsgan": lsgan_discriminator,
    "vanilla": vanilla_discriminator,
}
