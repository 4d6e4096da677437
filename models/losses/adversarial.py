"""Adversarial objectives: for each, what the generator and what the discriminator minimise.

Scores are any shape, unbounded; every function returns a float32 scalar, the mean over all scores.
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

    `label` is what reals are worth; below 1 it is smoothed (Salimans et al. 2016, arXiv:1606.03498).
    """
    return 0.5 * ((real.float() - label).square().mean() + fake.float().square().mean())


def vanilla_generator(fake: Tensor) -> Tensor:
    """-E[log sigmoid D(G(x))], the non-saturating form (Goodfellow et al. 2014, Sec. 3)."""
    return softplus(-fake.float()).mean()


def vanilla_discriminator(real: Tensor, fake: Tensor, label: float = 1.0) -> Tensor:
    """-E[log sigmoid D(y)] - E[log(1 - sigmoid D(G(x)))] (Goodfellow et al. 2014, Eq. 1).

    `label` is the probability that reals are worth; below 1 it is smoothed.
    """
    of_real = softplus(-real.float()).mean()
    if label != 1.0:
        of_real = label * of_real + (1 - label) * softplus(real.float()).mean()
    return of_real + softplus(fake.float()).mean()


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
    """E[D(G(x))] - E[D(y)] (Arjovsky et al. 2017, Eq. 2); wants a Lipschitz D to be bounded."""
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

# Discriminators' losses that know what a real is worth: (real scores, fake scores, label).
SMOOTHED: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "lsgan": lsgan_discriminator,
    "vanilla": vanilla_discriminator,
}
