"""Losses of style: each expected value is worked out in the comment above it."""

import pytest
import torch

from models.losses.reconstruction import l2
from models.losses.style import (
    gram,
    gram_energy,
    mean_and_std,
    statistics_distance,
    total_variation,
)


def test_the_gram_matrix_of_twos_is_one():
    # C = 4, H W = 9: each product is 4, nine of them are 36, over C H W = 36.
    assert gram(torch.full((1, 4, 3, 3), 2.0)).equal(torch.ones(1, 4, 4))


def test_a_gram_matrix_ignores_positions_and_separates_channels():
    features = torch.rand(2, 3, 4, 5)
    assert torch.allclose(gram(features), gram(features.flip(3)), atol=1e-6)
    # Channel 0 is 1 at half of the positions, channel 1 at the others: 1 * 8 / (2 * 16), and 0.
    halves = torch.zeros(1, 2, 4, 4)
    halves[0, 0, :2] = halves[0, 1, 2:] = 1
    assert gram(halves)[0].equal(torch.eye(2) * 0.25)


def test_the_energy_of_twos_against_zeros_is_four():
    # E_l = sum (G - A)^2 / (4 N^2 M^2) with plain Grams: 16 * 36^2 / (4 * 4^2 * 9^2) = 4.
    features = torch.full((2, 4, 3, 3), 2.0)
    assert gram_energy(gram(features), torch.zeros(1, 4, 4)).item() == 4.0


def test_a_gram_matrix_is_float32_under_autocast():
    features = torch.rand(1, 3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        grams = gram(features)
    assert grams.dtype == torch.float32 and grams.equal(gram(features))


def test_means_and_deviations_are_those_of_each_channel():
    # 0 and 2 in equal parts: mean 1, deviation 1; a constant 3 has deviation sqrt(1e-5).
    features = torch.stack([torch.tensor([[0.0, 2], [2, 0]]), torch.full((2, 2), 3.0)])[None]
    mean, std = mean_and_std(features)
    assert mean.flatten().tolist() == [1, 3]
    assert std.flatten().tolist() == pytest.approx([1, 1e-5**0.5], abs=1e-5)


def test_the_distance_of_statistics_adds_means_and_deviations():
    # Means 1 and 4 differ by 3, deviations 1 and 2 by 1: 9 + 1.
    one = torch.tensor([[0.0, 2], [2, 0]])[None, None]
    assert statistics_distance(one, 2 * one + 2).item() == pytest.approx(10, abs=1e-3)
    assert statistics_distance(one, one.flip(3)).item() == 0


def test_the_total_variation_of_stripes_is_their_step():
    # Rows alternate between 0 and 1: every step down is 1, every step across 0.
    stripes = (torch.arange(4) % 2).float()[None, None, :, None].expand(1, 3, 4, 5)
    assert total_variation(stripes).item() == 1.0
    assert total_variation(torch.full((1, 3, 4, 4), 0.3)).item() == 0.0


def test_l2_is_the_mean_square():
    # Differences 3 and 1: (9 + 1) / 2.
    assert l2(torch.tensor([3.0, 1]), torch.zeros(2)).item() == 5.0
