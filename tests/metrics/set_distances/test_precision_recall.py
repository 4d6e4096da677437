"""Precision, recall, density and coverage against values worked out by hand."""

import warnings

import pytest
import torch

from metrics.set_distances import precision_recall as manifold
from metrics.set_distances.precision_recall import density_coverage, improved_precision_recall


def line(*positions: float) -> torch.Tensor:
    return torch.tensor(positions)[:, None]


def cloud(rows: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 16, generator=generator, dtype=torch.float64) * scale + shift


# With k = 1 the real balls reach from -1 to 1, 0 to 2 and 1 to 5; the fakes' from -3 to 4, 0.5 to
# 7.5, 4 to 16 and 10 to 30.
REAL, FAKE = line(0, 1, 3), line(0.5, 4, 10, 20)


def test_precision_and_recall_by_hand():
    assert improved_precision_recall(FAKE, REAL, k=1) == (2 / 4, 3 / 3)
    assert improved_precision_recall(REAL, FAKE, k=1) == (3 / 3, 2 / 4)


def test_density_and_coverage_by_hand():
    # 0.5 is in two balls and 4 in one; each of the three real images has one of them in its ball.
    assert density_coverage(FAKE, REAL, k=1) == (3 / 4, 3 / 3)
    # With k = 2 the balls are -3 to 3, -1 to 3 and 0 to 6: 0.5 in three, 4 in one.
    assert density_coverage(FAKE, REAL, k=2) == (4 / (2 * 4), 1)
    assert density_coverage(line(0.5, 0.7), REAL, k=1) == (4 / 2, 2 / 3)


def test_balls_include_their_border_for_precision_and_not_for_density():
    fake = line(5, 10, 20)
    assert improved_precision_recall(fake, REAL, k=1)[0] == pytest.approx(1 / 3)
    assert density_coverage(fake, REAL, k=1) == (0, 0)


def test_all_four_metrics_are_1_for_equal_sets():
    points = cloud(40, 0)
    assert improved_precision_recall(points, points.clone()) == (1, 1)
    assert density_coverage(points, points.clone()) == (1, 1)


def test_missing_variety_costs_recall_and_coverage_and_wrong_images_cost_precision_and_density():
    real = cloud(200, 0)
    collapsed, wild = cloud(200, 1, scale=0.3), cloud(200, 2, scale=3.0)
    precision, recall = improved_precision_recall(collapsed, real)
    assert precision > 0.95 and recall < 0.05
    precision, recall = improved_precision_recall(wild, real)
    assert precision < 0.05 and recall > 0.95
    assert density_coverage(collapsed, real)[0] > 1
    assert density_coverage(wild, real)[1] < 0.2
    assert density_coverage(cloud(200, 3, shift=9.0), real) == (0, 0)


def test_blocks_do_not_change_the_metrics(monkeypatch):
    one, two = cloud(50, 0, scale=0.8), cloud(37, 1)
    whole = improved_precision_recall(one, two), density_coverage(one, two, 2)
    monkeypatch.setattr(manifold, "MAX_BLOCK", 150)  # three or four rows at a time
    assert (improved_precision_recall(one, two), density_coverage(one, two, 2)) == whole
    assert 0 < whole[0][0] < 1 and 0 < whole[0][1] < 1 and 0 < whole[1][1] < 1


def test_k_neighbours_need_more_than_k_images():
    with pytest.raises(ValueError, match="more than 3 images, got 3 and 9"):
        improved_precision_recall(cloud(3, 0), cloud(9, 1))
    with pytest.raises(ValueError, match="more than 3 images, got 9 and 3"):
        improved_precision_recall(cloud(9, 0), cloud(3, 1))
    with pytest.raises(ValueError, match="more than 5 images, got 5"):
        density_coverage(cloud(9, 0), cloud(5, 1))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_it_agrees_with_torch_fidelity(k):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pytest.importorskip("torch_fidelity.metric_prc")
    fake, real = cloud(120, 0, scale=0.8), cloud(100, 1)
    expected = theirs.prc_features_to_metric(fake, real, prc_neighborhood=k, verbose=False)
    precision, recall = improved_precision_recall(fake, real, k)
    assert 0 < recall < precision < 1
    assert precision == pytest.approx(expected["precision"], rel=1e-6)
    assert recall == pytest.approx(expected["recall"], rel=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value):
    sound, broken = torch.rand(12, 4), torch.rand(12, 4)
    broken[3, 2] = value
    for function in (improved_precision_recall, density_coverage):
        for pair in ((broken, sound), (sound, broken)):
            with pytest.raises(
                ValueError, match="1 of 12 images have features that are not finite"
            ):
                function(*pair)
