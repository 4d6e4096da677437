"""Bootstrap intervals against the known standard error of a mean."""

import pytest
import torch

from metrics.bootstrap import interval


def normal(rows: int, seed: int, *columns: int) -> torch.Tensor:
    return torch.randn(rows, *columns, generator=torch.Generator().manual_seed(seed))


def test_the_interval_of_a_mean_is_1_96_standard_errors_to_either_side():
    values = 3 + 2 * normal(400, 0)
    low, high = interval(values, resamples=4000)
    error = values.std(correction=0).item() / 20
    assert low == pytest.approx(values.mean().item() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean().item() + 1.96 * error, abs=0.1 * error)
    low, high = interval(values, confidence=0.5, resamples=4000)
    assert high - low == pytest.approx(2 * 0.674 * error, rel=0.1)


def test_intervals_contain_the_true_mean_about_as_often_as_their_confidence():
    ends = [interval(normal(40, i), resamples=200, confidence=0.9) for i in range(200)]
    coverage = sum(low < 0 < high for low, high in ends) / 200
    assert (
        0.82 < coverage < 0.95
    )  # 0.9 with a standard error of 0.02; small samples give slightly less


def test_quantiles_by_hand():
    # Two rows of 0 and 1: the maximum is 0 in a quarter of all resamples.
    assert interval([0, 1], lambda rows: rows.amax(dim=1), confidence=0.6) == (0, 1)
    assert interval([0, 1], lambda rows: rows.amax(dim=1), confidence=0.4) == (1, 1)
    assert interval([5.0] * 7) == (5, 5)


def test_the_result_depends_on_the_seed_and_not_on_the_global_generator():
    values = normal(20, 0)
    before = torch.get_rng_state()
    assert interval(values, seed=1) == interval(values, seed=1) == interval(values.tolist(), seed=1)
    assert interval(values, seed=1) != interval(values, seed=2)
    assert torch.equal(before, torch.get_rng_state())


def test_empty_values_and_impossible_confidences_raise():
    with pytest.raises(ValueError, match="at least one value"):
        interval([])
    for confidence in (0, 1, 95):
        with pytest.raises(ValueError, match="between 0 and 1"):
            interval([1.0], confidence=confidence)
