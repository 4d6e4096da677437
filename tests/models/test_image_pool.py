"""The image pool and the feature queue: which past images and features they return."""

import pytest
import torch

from models.image_pool import FeatureQueue, ImagePool


def numbered(value: float, count: int = 1) -> torch.Tensor:
    return torch.full((count, 1, 2, 2), float(value))


def test_the_first_images_are_returned_as_they_are_and_without_a_graph():
    pool = ImagePool(5)
    for value in range(5):
        fake = numbered(value).requires_grad_()
        output = pool(fake)
        assert torch.equal(output, fake) and not output.requires_grad
    assert pool.images is not None
    assert pool.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_half_of_the_images_are_swapped_and_the_size_stays():
    pool = ImagePool(50)
    for value in range(50):
        pool(numbered(value))
    swaps = 0
    for value in range(50, 10_050):
        output = pool(numbered(value)).flatten()[0].item()
        assert output <= value
        swaps += output != value
        assert pool.count == 50
    # 10,000 fair coins: three standard errors are 0.015.
    assert swaps / 10_000 == pytest.approx(0.5, abs=0.015)


def test_an_image_survives_a_query_with_probability_99_percent():
    # A swap (1/2) hits one slot of 50: 0.99 per query, so half of them survive 69 queries.
    survivors = []
    for _ in range(60):
        pool = ImagePool(50)
        for value in range(50):
            pool(numbered(value))
        for _ in range(69):
            pool(numbered(1000))
        assert pool.images is not None
        survivors.append((pool.images[:, 0, 0, 0] < 50).float().mean())
    # The standard error over 3,000 nearly independent slots is 0.009; four of them.
    assert torch.stack(survivors).mean().item() == pytest.approx(0.4998, abs=0.037)


def test_a_swapped_image_never_returns_itself():
    pool = ImagePool(1)
    pool(numbered(0))
    returned = [pool(numbered(value)).flatten()[0].item() for value in range(1, 200)]
    swapped = [(value, output) for value, output in enumerate(returned, start=1) if output != value]
    assert swapped and all(output < value for value, output in swapped)


def test_each_image_of_a_batch_is_drawn_on_its_own():
    pool = ImagePool(8)
    pool(torch.cat([numbered(value) for value in range(8)]))
    output = pool(torch.cat([numbered(100 + value) for value in range(8)]))[:, 0, 0, 0]
    assert 0 < int((output < 100).sum()) < 8


def test_size_zero_passes_through():
    fake = numbered(3).requires_grad_()
    output = ImagePool(0)(fake)
    assert torch.equal(output, fake) and not output.requires_grad


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


def test_a_new_image_size_begins_a_new_pool():
    pool = ImagePool(2)
    pool(torch.zeros(2, 1, 4, 4))
    assert torch.equal(pool(torch.ones(1, 1, 8, 8)), torch.ones(1, 1, 8, 8))
    assert pool.count == 1


def stored(queue: FeatureQueue) -> list[float]:
    past = queue.past(numbered(0))
    return [] if past is None else past[:, 0, 0, 0].tolist()


def test_a_queue_stores_the_last_features_oldest_first_and_detached():
    queue = FeatureQueue(3)
    assert stored(queue) == []
    states = []
    for value in range(1, 6):
        queue.remember(numbered(value).requires_grad_())
        states.append(stored(queue))
    assert states == [[1], [1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    queue.remember(torch.cat([numbered(value) for value in (6, 7, 8, 9)]))
    assert stored(queue) == [7, 8, 9]  # a batch of four at once: the oldest drops out
    past = queue.past(numbered(0))
    assert past is not None and not past.requires_grad


def test_a_queue_of_size_zero_stores_nothing():
    queue = FeatureQueue(0)
    queue.remember(numbered(1))
    assert stored(queue) == [] and queue.get_extra_state() == {"features": None}


def test_features_that_are_not_finite_never_enter_a_queue():
    queue = FeatureQueue(3)
    queue.remember(numbered(1))
    queue.remember(numbered(float("nan")))
    assert queue.features is not None and queue.features.isfinite().all()


def test_a_queue_starts_empty_for_features_of_another_size():
    queue = FeatureQueue(3)
    queue.remember(numbered(1))
    assert queue.past(torch.zeros(1, 1, 4, 4)) is None
    queue.remember(torch.zeros(1, 1, 4, 4))
    assert stored(queue) == [] and queue.count == 1


def test_a_queue_with_reserved_maps_returns_the_same_in_the_same_memory():
    reserved, plain = FeatureQueue(3), FeatureQueue(3)
    reserved.remember(numbered(0))
    plain.remember(numbered(0))
    assert reserved.features is not None
    memory = reserved.features.data_ptr()
    for value in range(1, 6):
        reserved.reserve(1)
        assert stored(reserved) == stored(plain)  # reserved maps are not stored yet
        reserved.remember(numbered(value))
        plain.remember(numbered(value))
        assert stored(reserved) == stored(plain) and reserved.features.data_ptr() == memory


@pytest.mark.parametrize("steps", [0, 2, 5])
def test_a_queue_continues_from_its_state(steps):
    queue, other = FeatureQueue(3), FeatureQueue(3)
    for value in range(steps):
        queue.remember(numbered(value))
    other.load_state_dict(queue.state_dict())
    assert stored(other) == stored(queue)
    for one in (queue, other):
        one.remember(numbered(9))
    assert stored(other) == stored(queue)
