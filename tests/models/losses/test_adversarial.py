"""Adversarial losses against values worked out by hand."""

import math

import pytest
import torch

from models.losses.adversarial import GAN_MODES
from models.losses.reconstruction import l1


def scores(value: float) -> torch.Tensor:
    return torch.full((2, 1, 3, 3), value)


# lsgan: (0.3 - 1)^2; (0.2^2 + 0.3^2) / 2. vanilla: softplus(-0.3); softplus(-0.8) + softplus(0.3).
# hinge: -0.3; (1 - 0.8) + (1 + 0.3). wgan: -0.3; 0.3 - 0.8.
@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [
        ("lsgan", 0.49, 0.065),
        (
            "vanilla",
            math.log1p(math.exp(-0.3)),
            math.log1p(math.exp(-0.8)) + math.log1p(math.exp(0.3)),
        ),
        ("hinge", -0.3, 1.5),
        ("wgan", -0.3, -0.5),
    ],
)
def test_a_gan_mode_has_its_values(name, generator, discriminator):
    loss = GAN_MODES[name]
    assert loss.generator(scores(0.3)).item() == pytest.approx(generator, abs=1e-6)
    assert loss.discriminator(scores(0.8), scores(0.3)).item() == pytest.approx(
        discriminator, abs=1e-6
    )


def test_vanilla_at_zero_and_one():
    vanilla = GAN_MODES["vanilla"]
    assert vanilla.generator(scores(0)).item() == pytest.approx(0.693147, abs=1e-6)
    assert vanilla.generator(scores(-1)).item() == pytest.approx(1.313262, abs=1e-6)
    assert vanilla.generator(scores(1)).item() == pytest.approx(0.313262, abs=1e-6)
    assert vanilla.discriminator(scores(0), scores(0)).item() == pytest.approx(1.386294, abs=1e-6)


def test_the_hinge_stops_pushing_beyond_its_margin():
    assert GAN_MODES["hinge"].discriminator(scores(2), scores(-2)).item() == 0


@pytest.mark.parametrize("name", GAN_MODES)
def test_generator_and_discriminator_pull_in_opposite_directions(name):
    fake = torch.tensor([0.2], requires_grad=True)
    (up,) = torch.autograd.grad(GAN_MODES[name].generator(fake), fake)
    (down,) = torch.autograd.grad(GAN_MODES[name].discriminator(torch.tensor([0.9]), fake), fake)
    assert up < 0 < down


@pytest.mark.parametrize("name", GAN_MODES)
def test_losses_are_float32_for_half_precision_scores(name):
    half = scores(0.3).bfloat16()
    assert GAN_MODES[name].generator(half).dtype == torch.float32
    assert GAN_MODES[name].discriminator(half, half).dtype == torch.float32


def test_l1_is_the_mean_absolute_difference():
    assert l1(torch.tensor([1.0, -1.0]), torch.tensor([0.5, 1.0])).item() == pytest.approx(1.25)
