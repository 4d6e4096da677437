"""Gradient penalties of a discriminator whose gradient is known: D(x) = 0.1 * sum of 48 values."""

import pytest
import torch

from models.losses.gradient_penalty import r1, squared_gradients, wgan_gp, zero_centered_gp


def linear(images):
    return 0.1 * images.flatten(1).sum(dim=1)


@pytest.mark.parametrize(
    ("penalty", "expected"),
    # The gradient is 0.1 everywhere: 48 * 0.01 = 0.48; its norm is 0.6928; (0.6928 - 1)^2 is
    # 0.0943594.
    [(r1, 0.24), (zero_centered_gp, 0.48), (wgan_gp, 0.0943594)],
)
def test_penalties_are_those_worked_out_by_hand(penalty, expected):
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    squared = squared_gradients([linear(images)], images)
    assert squared.tolist() == pytest.approx([0.48, 0.48], rel=1e-6)
    assert penalty(squared).item() == pytest.approx(expected, rel=1e-5)


def test_the_scores_of_several_scales_are_summed():
    images = torch.rand(1, 3, 4, 4, requires_grad=True)
    squared = squared_gradients([linear(images), linear(images)], images)
    assert squared.item() == pytest.approx(4 * 0.48, rel=1e-6)  # twice the gradient


def test_a_penalty_has_a_gradient_for_the_weights():
    weight = torch.tensor(0.1, requires_grad=True)
    images = torch.rand(1, 3, 4, 4, requires_grad=True)
    r1(squared_gradients([weight * images.sum()], images)).backward()
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(4.8, rel=1e-6)  # d(24 w^2) / dw


def test_a_flat_discriminator_has_a_finite_gradient_under_wgan_gp():
    weight = torch.zeros((), requires_grad=True)
    images = torch.rand(1, 3, 4, 4, requires_grad=True)
    wgan_gp(squared_gradients([weight * images.sum()], images)).backward()
    assert weight.grad is not None
    assert weight.grad.isfinite()
