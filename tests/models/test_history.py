"""The law of the image history."""

import pytest
import torch

from models.history import ImageHistory


def numbered(value: float, count: int = 1) -> torch.Tensor:
    return torch.full((count, 1, 2, 2), float(value))


def test_the_first_images_are_returned_as_they_are_and_without_a_graph():
    history = ImageHistory(5)
    for value in range(5):
        fake = numbered(value).requires_grad_()
        seen = history(fake)
        assert torch.equal(seen, fake) and not seen.requires_grad
    assert history.images is not None
    assert history.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_half_of_the_queries_swap_the_size_stays_and_old_images_die_out():
    history = ImageHistory(50)
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
        history = ImageHistory(50)
        for value in range(50):
            history(numbered(value))
        for _ in range(69):
            history(numbered(1000))
        assert history.images is not None
        survivors.append((history.images[:, 0, 0, 0] < 50).float().mean())
    # Deviation of the mean over 3,000 nearly independent slots is 0.009; four of them.
    assert torch.stack(survivors).mean().item() == pytest.approx(0.4998, abs=0.037)


def test_the_slot_written_for_an_image_is_not_what_that_image_returns():
    history = ImageHistory(1)
    history(numbered(0))
    returned = [history(numbered(value)).flatten()[0].item() for value in range(1, 200)]
    swapped = [(value, seen) for value, seen in enumerate(returned, start=1) if seen != value]
    assert swapped and all(seen < value for value, seen in swapped)


def test_each_image_of_a_batch_is_drawn_on_its_own():
    history = ImageHistory(8)
    history(torch.cat([numbered(value) for value in range(8)]))
    seen = history(torch.cat([numbered(100 + value) for value in range(8)]))[:, 0, 0, 0]
    assert 0 < int((seen < 100).sum()) < 8


def test_size_zero_passes_through():
    fake = numbered(3).requires_grad_()
    seen = ImageHistory(0)(fake)
    assert torch.equal(seen, fake) and not seen.requires_grad


def test_the_state_round_trips_and_the_future_is_the_same():
    first, second = ImageHistory(4), ImageHistory(4)
    for value in range(7):
        first(numbered(value))
    second.load_state_dict(first.state_dict())
    for value in range(10, 20):
        torch.manual_seed(value)
        one = first(numbered(value))
        torch.manual_seed(value)
        assert torch.equal(one, second(numbered(value)))


def test_a_new_image_size_begins_a_new_history():
    history = ImageHistory(2)
    history(torch.zeros(2, 1, 4, 4))
    assert torch.equal(history(torch.ones(1, 1, 8, 8)), torch.ones(1, 1, 8, 8))
    assert history.count == 1
