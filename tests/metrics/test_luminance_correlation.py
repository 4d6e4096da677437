"""Luminance and correlation against values worked out by hand."""

import pytest
import torch

from metrics.luminance_correlation import correlation, luminance, standardize


def test_luminance_is_weighted_for_three_channels_and_averaged_for_others():
    red, green, blue = (torch.eye(3)[i][None, :, None, None] for i in range(3))
    measured = [luminance(x).item() for x in (red, green, blue, red + green + blue)]
    assert measured == pytest.approx([0.299, 0.587, 0.114, 1])
    assert luminance(torch.tensor([0.1, 0.5])[None, :, None, None]).item() == pytest.approx(0.3)
    assert luminance(torch.rand(2, 4, 5, 6)).shape == (2, 1, 5, 6)
    assert luminance(torch.rand(1, 1, 2, 2)).dtype == torch.float64


def test_every_image_is_standardized_by_itself():
    planes = torch.tensor([[0.0, 4.0], [10.0, 12.0], [0.3, 0.3]]).double()[:, None, None]
    assert standardize(planes)[:, 0, 0].tolist() == [[-1, 1], [-1, 1], [0, 0]]
    flat = torch.full((1, 1, 1, 3), 0.1, dtype=torch.float64)
    assert (flat - flat.mean()).abs().max() > 0  # rounding, which must not be scaled up
    assert standardize(flat).abs().max() == 0


def test_correlation_by_hand():
    # Centred: -1, 0, 1 and -1, 1, 0, a product of 1 over sums of squares of 2.
    one, two = (torch.tensor(x).double()[None, None, None] for x in ([1, 2, 3], [5.0, 7, 6]))
    assert correlation(one, two).item() == pytest.approx(0.5)
    assert correlation(one, -3 * two + 1).item() == pytest.approx(-0.5)
    assert correlation(one, torch.full_like(one, 0.1)).item() == 0
