"""The law of the image history."""

import pytest
import torch

from models.image_pool import FeatureQueue, ImagePool


def numbered(value: float, count: int = 1) -> torch.Tensor:
    return torch.full((count, 1, 2, 2), float(value))


def test_the_first_images_are_returned_as_they_are_and_without_a_graph():
    history = ImagePool(5)
    for value in range(5):
        fake = numbered(value).requires_grad_()
        seen = history(fake)
        assert torch.equal(seen, fake) and not seen.requires_grad
    assert history.images is not None
    assert history.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_half_of_the_queries_swap_the_size_stays_and_old_images_die_out():
    history = ImagePool(50)
    for value in range(50):
        history(numbered(value))
    swaps = 0
    for value in range(50, 10_050):
        seen = history(numbered(value)).flatten()[0].item()
        assert seen <= value
        swaps += seen != value
        assert history.count == 50
    # 10,000 fair coins: three standard errors are 0.015.
    assert swaps / 10_000 == pytest.approx(0.5, abs=0.015)


def test_an_image_survives_a_query_with_probability_99_percent():
    # A swap (1/2) hits one slot of 50: 0.99 a query, so 0.5 of them live through 69 queries.
    survivors = []
    for _ in range(60):
        history = ImagePool(50)
        for value in range(50):
            history(numbered(value))
        for _ in range(69):
            history(numbered(1000))
        assert history.images is not None
        survivors.append((history.images[:, 0, 0, 0] < 50).float().mean())
    # Deviation of the mean over 3,000 nearly independent slots is 0.009; four of them.
    assert torch.stack(survivors).mean().item() == pytest.approx(0.4998, abs=0.037)


def test_the_slot_written_for_an_image_is_not_what_that_image_returns():
    history = ImagePool(1)
    history(numbered(0))
    returned = [history(numbered(value)).flatten()[0].item() for value in range(1, 200)]
    swapped = [(value, seen) for value, seen in enumerate(returned, start=1) if seen != value]
    assert swapped and all(seen < value for value, seen in swapped)


def test_each_image_of_a_batch_is_drawn_on_its_own():
    history = ImagePool(8)
    history(torch.cat([numbered(value) for value in range(8)]))
    seen = history(torch.cat([numbered(100 + value) for value in range(8)]))[:, 0, 0, 0]
    assert 0 < int((seen < 100).sum()) < 8


def test_size_zero_passes_through():
    fake = numbered(3).requires_grad_()
    seen = ImagePool(0)(fake)
    assert torch.equal(seen, fake) and not seen.requires_grad


def test_the_state_round_trips_and_the_future_is_the_same():
    first, second = ImagePool(4), ImagePool(4)
    for value in range(7):
        first(numbered(value))
    second.load_state_dict(first.state_dict())
    for value in range(10, 20):
        torch.manual_seed(value)
        one = first(numbered(value))
        torch.manual_seed(value)
        assert torch.equal(one, second(numbered(value)))


def test_a_new_image_size_begins_a_new_history():
    history = ImagePool(2)
    history(torch.zeros(2, 1, 4, 4))
    assert torch.equal(history(torch.ones(1, 1, 8, 8)), torch.ones(1, 1, 8, 8))
    assert history.count == 1


def kept(queue: FeatureQueue) -> list[float]:
    found = queue.past(numbered(0))
    return [] if found is None else found[:, 0, 0, 0].tolist()


def test_a_queue_keeps_the_last_features_oldest_first_and_without_a_graph():
    queue = FeatureQueue(3)
    assert kept(queue) == []
    found = []
    for value in range(1, 6):
        queue.remember(numbered(value).requires_grad_())
        found.append(kept(queue))
    assert found == [[1], [1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    queue.remember(torch.cat([numbered(value) for value in (6, 7, 8, 9)]))
    assert kept(queue) == [7, 8, 9]  # four of a batch at once: the oldest falls out
    past = queue.past(numbered(0))
    assert past is not None and not past.requires_grad


def test_a_queue_of_no_places_keeps_nothing():
    queue = FeatureQueue(0)
    queue.remember(numbered(1))
    assert kept(queue) == [] and queue.get_extra_state() == {"features": None}


def test_features_that_are_not_finite_never_enter_a_queue():
    queue = FeatureQueue(3)
    queue.remember(numbered(1))
    queue.remember(numbered(float("nan")))
    assert queue.features is not None and queue.features.isfinite().all()


def test_a_queue_starts_anew_where_features_have_another_size():
    queue = FeatureQueue(3)
    queue.remember(numbered(1))
    assert queue.past(torch.zeros(1, 1, 4, 4)) is None
    queue.remember(torch.zeros(1, 1, 4, 4))
    assert kept(queue) == [] and queue.count == 1


def test_a_queue_that_was_told_what_comes_does_the_same_in_the_same_memory():
    told, asked = FeatureQueue(3), FeatureQueue(3)
    told.remember(numbered(0))
    asked.remember(numbered(0))
    assert told.features is not None
    memory = told.features.data_ptr()
    for value in range(1, 6):
        told.reserve(1)
        assert kept(told) == kept(asked)  # what was counted in is not there before it came
        told.remember(numbered(value))
        asked.remember(numbered(value))
        assert kept(told) == kept(asked) and told.features.data_ptr() == memory


@pytest.mark.parametrize("steps", [0, 2, 5])
def test_a_queue_goes_on_from_its_state(steps):
    queue, other = FeatureQueue(3), FeatureQueue(3)
    for value in range(steps):
        queue.remember(numbered(value))
    other.load_state_dict(queue.state_dict())
    assert kept(other) == kept(queue)
    for one in (queue, other):
        one.remember(numbered(9))
    assert kept(other) == kept(queue)
