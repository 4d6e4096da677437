"""Diversity and style accuracy of images whose result is known."""

import pytest
import torch

from metrics.diversity import pairwise_distance, style_accuracy


def plain(value: float, size: int = 4) -> torch.Tensor:
    return torch.full((1, 3, size, size), value)


def test_the_pairwise_distance_agrees_with_values_worked_out_by_hand():
    # 0, 0.3 and 0.9: pairs 0.3, 0.9 and 0.6, a mean of 0.6.
    assert pairwise_distance([plain(0.0), plain(0.3), plain(0.9)]) == pytest.approx(0.6)
    assert pairwise_distance([plain(0.5)] * 4) == 0
    with pytest.raises(ValueError, match="two images"):
        pairwise_distance([plain(0.0)])


def test_a_fake_follows_a_style_if_it_is_nearest_to_its_own_reference():
    references = [plain(-0.8, 8), plain(0.0, 8), plain(0.8, 8)]
    follows = [[plain(-0.7), plain(0.1), plain(0.6)]]
    assert style_accuracy(follows, references) == 1.0
    # Always the middle style: nearer than both others in its own case, never in the other two.
    ignores = [[plain(0.0)] * 3]
    assert style_accuracy(ignores, references) == pytest.approx(2 / 6)


def test_the_deviation_of_colors_counts_too():
    flat, rough = plain(0.0, 8), torch.randn(1, 3, 8, 8)
    rough = rough - rough.mean(dim=(2, 3), keepdim=True)
    assert style_accuracy([[flat, rough]], [flat, rough]) == 1.0
    assert style_accuracy([[rough, flat]], [flat, rough]) == 0.0
