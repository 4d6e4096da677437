"""CIEDE2000 against scikit-image and pairs of Sharma et al. 2005."""

import numpy as np
import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab

from metrics.color_difference import ciede2000, mean_ciede2000, to_lab

# L, a, b of two colors and their difference: Sharma et al. 2005, Table 1, the hard cases.
SHARMA = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "expected"), SHARMA)
def test_published_pairs(one, other, expected):
    lab = [torch.tensor(x, dtype=torch.float64).view(1, 3, 1, 1) for x in (one, other)]
    assert ciede2000(*lab).item() == pytest.approx(expected, abs=1e-4)
    assert ciede2000(*lab[::-1]).item() == pytest.approx(expected, abs=1e-4)


def test_it_equals_scikit_image_on_random_colors():
    random = np.random.default_rng(0)
    one, other = (random.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(2))
    images = [torch.tensor(x).permute(2, 0, 1)[None] / 127.5 - 1 for x in (one, other)]
    lab = [rgb2lab(x / 255) for x in (one, other)]
    assert np.abs(to_lab(images[0])[0].permute(1, 2, 0).numpy() - lab[0]).max() < 0.02
    assert mean_ciede2000(*images).item() == pytest.approx(deltaE_ciede2000(*lab).mean(), abs=2e-3)


def test_equal_images_differ_by_0_and_black_from_white_by_100():
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    assert mean_ciede2000(x, x).tolist() == [0, 0]
    black = -torch.ones(1, 3, 4, 4)
    assert mean_ciede2000(black, -black).item() == pytest.approx(100, abs=0.01)
