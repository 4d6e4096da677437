"""The kernel distance against sums worked out by hand and against torch-fidelity."""

import warnings

import numpy as np
import pytest
import torch

from metrics.set_distances import kernel_distance as module
from metrics.set_distances.kernel_distance import (
    kernel_distance,
    kernel_distance_interval,
    squared_mmd,
)


def features(rows: int, columns: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64) + shift


@pytest.fixture(scope="module")
def theirs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch_fidelity.metric_kid")


def test_four_points_have_the_value_worked_out_by_hand():
    # (x y + 1)^3 is 1 within 0, 1 and 343 within 2, 3; across it is 1, 1, 27 and 64, mean 23.25.
    fake, real = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    assert squared_mmd(fake, real) == 1 + 343 - 2 * 23.25
    assert kernel_distance(fake, real) == (297.5, 0)


def test_the_product_is_divided_by_the_number_of_features():
    fake, real = features(9, 5, 0), features(8, 5, 1, 0.5)
    doubled = squared_mmd(torch.cat([fake, fake], 1), torch.cat([real, real], 1))
    assert doubled == pytest.approx(squared_mmd(fake, real), rel=1e-12)


def test_it_is_unbiased_between_equal_distributions_and_grows_with_their_distance():
    values = torch.tensor(
        [squared_mmd(features(20, 8, 2 * i), features(20, 8, 2 * i + 1)) for i in range(400)]
    )
    standard_error = values.std() / 20
    assert values.mean().abs() < 3 * standard_error
    assert 0.3 < (values < 0).double().mean() < 0.7
    near, far = (kernel_distance(features(99, 8, 0, x), features(99, 8, 1))[0] for x in (0.2, 1))
    assert 5 * abs(values.mean()) < near < far / 5


def test_subsets_depend_on_the_seed_alone_and_contain_different_rows():
    fake, real = features(50, 8, 0, 0.3), features(40, 8, 1)
    before = torch.get_rng_state()
    first = kernel_distance(fake, real, subsets=10, subset_size=20, seed=3)
    assert first == kernel_distance(fake, real, subsets=10, subset_size=20, seed=3)
    assert first != kernel_distance(fake, real, subsets=10, subset_size=20, seed=4)
    assert first[1] > 0
    assert torch.equal(before, torch.get_rng_state())
    # 40 different rows of 40, in any order, are the whole set.
    whole = squared_mmd(fake[:40], real)
    assert kernel_distance(fake[:40], real.flip(0))[0] == pytest.approx(whole, rel=1e-10)


def test_the_subset_is_lowered_to_the_smaller_set():
    fake, real = features(30, 8, 0), features(12, 8, 1)
    assert kernel_distance(fake, real, subsets=5) == kernel_distance(fake, real, 5, 12)


def test_one_image_is_too_few():
    with pytest.raises(ValueError, match="at least two images"):
        kernel_distance(features(30, 8, 0), features(1, 8, 1))


def test_whole_sets_agree_with_torch_fidelity(theirs):
    fake, real = features(60, 32, 0, 0.2), features(60, 32, 1)
    expected = theirs.kid_features_to_metric(
        fake, real, kid_subsets=1, kid_subset_size=60, verbose=False
    )
    measured, deviation = kernel_distance(fake, real)
    assert measured == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-6)
    assert deviation == 0


def test_the_same_subsets_agree_with_torch_fidelity(theirs):
    fake, real = features(60, 32, 0, 0.2), features(50, 32, 1)
    expected = theirs.kid_features_to_metric(
        fake, real, kid_subsets=20, kid_subset_size=25, rng_seed=7, verbose=False
    )
    random = np.random.RandomState(7)
    values = []
    for _ in range(20):
        rows = random.choice(60, 25, replace=False)
        others = random.choice(50, 25, replace=False)
        values.append(squared_mmd(fake[rows], real[others]))
    assert np.mean(values) == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-6)
    assert np.std(values) == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-6)
    # Other subsets of the same sets give the same value up to the error of a mean of 20.
    mean, deviation = kernel_distance(fake, real, 20, 25)
    assert abs(mean - np.mean(values)) < deviation
    assert deviation == pytest.approx(np.std(values), rel=0.6)


def test_the_interval_is_that_of_rows_left_out_one_by_one(monkeypatch):
    fake, real = features(9, 4, 0), features(7, 4, 1, shift=0.4)
    without = [
        [squared_mmd(fake[[i for i in range(9) if i != k]], real) for k in range(9)],
        [squared_mmd(fake, real[[i for i in range(7) if i != k]]) for k in range(7)],
    ]
    variance = sum(
        (len(x) - 1) * torch.tensor(x, dtype=torch.float64).var(correction=0).item()
        for x in without
    )
    center, width = squared_mmd(fake, real), 1.959964 * variance**0.5
    for block in (2**23, 10):  # also in blocks of a single row
        monkeypatch.setattr(module, "MAX_BLOCK", block)
        low, high = kernel_distance_interval(fake, real)
        assert (low, high) == pytest.approx((center - width, center + width), rel=1e-6)
    narrow = kernel_distance_interval(fake, real, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high
    with pytest.raises(ValueError, match="at least three"):
        kernel_distance_interval(fake[:2], real)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_interval_holds_the_distance_of_the_distributions_as_often_as_it_says(shift):
    # Of the kernel's expansion only the first two moments of normal features matter; a sample of
    # 40,000 rows gives them to 1 %.
    true = 0.0
    if shift:
        true = kernel_distance(features(4000, 8, 100), features(4000, 8, 101, shift), 20)[0]
    held = 0
    for trial in range(200):
        low, high = kernel_distance_interval(
            features(40, 8, 2 * trial), features(40, 8, 2 * trial + 1, shift)
        )
        held += low <= true <= high
    assert held >= 180, held  # 190 are expected; 180 is two and a half deviations below


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value):
    broken = features(8, 4, 0)
    broken[3, 2] = value
    for function in (kernel_distance, kernel_distance_interval):
        for pair in ((broken, features(8, 4, 1)), (features(8, 4, 1), broken)):
            with pytest.raises(ValueError, match="finite"):
                function(*pair)
