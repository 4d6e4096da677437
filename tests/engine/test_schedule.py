"""The length of a run and its learning rate."""

import pytest

from engine.schedule import make_schedule
from tests.conftest import raises_user_error

# Factors at epoch e (from 1) of 100 + 100: 1 - max(0, e - 100) / 101, so epoch 200 still learns.
TABLE = {1: 2e-4, 99: 2e-4, 100: 2e-4, 101: 1.980198e-4, 102: 1.960396e-4, 150: 1.009901e-4,
         151: 9.90099e-5, 200: 1.980198e-6}  # fmt: skip


@pytest.mark.parametrize(("epoch", "rate"), TABLE.items())
@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_learning_rate_follows_the_published_table(epoch, rate, batch_size):
    schedule = make_schedule("200 epochs", "50%", batch_size, epoch_images=1000)
    first = (epoch - 1) * 1000 // batch_size
    for step in (first, first + 1000 // batch_size - 1):
        assert 2e-4 * schedule.factor(step) == pytest.approx(rate, rel=1e-6)


def test_an_epoch_shows_the_larger_domain_once_whatever_the_batch():
    assert make_schedule("3 epochs", "50%", 1, 1000).steps == 3000
    assert make_schedule("3 epochs", "50%", 7, 1000).steps == 429


def test_a_run_measured_in_steps_decays_at_every_step_and_the_last_still_learns():
    schedule = make_schedule("40 steps", "50%", 4, 1000)
    factors = [schedule.factor(step) for step in range(schedule.steps)]
    assert factors[:20] == [1.0] * 20
    assert all(a > b for a, b in zip(factors[19:], factors[20:], strict=False))
    assert factors[-1] == pytest.approx(1 / 21)


@pytest.mark.parametrize("after", ["10 steps", "25%", "0.01 epochs"])
def test_the_decay_may_begin_at_a_step_a_share_or_an_epoch(after):
    schedule = make_schedule("40 steps", after, 1, 1000)
    assert schedule.factor(9) == 1.0 > schedule.factor(10)


def test_a_decay_after_the_end_never_comes():
    schedule = make_schedule("40 steps", "100 epochs", 1, 1000)
    assert [schedule.factor(step) for step in range(40)] == [1.0] * 40


def test_a_rate_is_a_function_of_the_step_alone():
    one, two = make_schedule("40 steps", "50%", 1, 1000), make_schedule("40 steps", "50%", 1, 1000)
    assert [one.factor(s) for s in range(40)] == [two.factor(s) for s in reversed(range(40))][::-1]


@pytest.mark.parametrize(
    "text", ["", "200", "200 epoch s", "many epochs", "-1 epochs", "50%", "0 steps", "1e3 steps"]
)
def test_a_text_that_is_not_a_duration_is_refused(text):
    with raises_user_error(option="duration"):
        make_schedule(text, "50%", 1, 10)


@pytest.mark.parametrize("warm_up", ["101 steps", "101%", "21 epochs"])
def test_a_warm_up_that_exceeds_the_run_is_detected(warm_up):
    assert make_schedule("100 steps", "50%", 2, 10, warm_up).warm_up_exceeds_run
    assert not make_schedule("100 steps", "50%", 2, 10, "100%").warm_up_exceeds_run


def test_a_warm_up_rises_from_near_zero_to_the_full_rate():
    schedule = make_schedule("100 steps", "50%", 1, 10, "4 steps")
    assert [schedule.factor(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert make_schedule("100 steps", "50%", 2, 10, "2 epochs").warm_up == 10
    assert make_schedule("100 steps", "50%", 2, 10, "10%").warm_up == 10
    without = make_schedule("100 steps", "50%", 1, 10)
    assert schedule.factor(80) == without.factor(80)
