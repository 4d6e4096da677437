"""The sliced Wasserstein distance of noise whose distances are known."""

import pytest
import torch

from metrics.sliced_wasserstein import sliced_wasserstein


def noise(
    count: int, scale: float, seed: int, size: int = 32, shift: float = 0.0
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(1, 3, size, size, generator=generator) * scale + shift for _ in range(count)
    ]


def test_a_set_is_nearer_to_one_of_its_distribution_than_to_others():
    reference = noise(8, 0.3, 0)
    like, wider, moved = noise(8, 0.3, 1), noise(8, 0.5, 2), noise(8, 0.3, 3, shift=0.5)
    distance = {name: sliced_wasserstein(x, reference) for name, x in
                (("like", like), ("wider", wider), ("moved", moved))}  # fmt: skip
    assert distance["like"] < 0.1 < distance["wider"]
    assert distance["like"] * 3 < distance["moved"]


def test_a_shift_in_color_has_its_closed_form_distance():
    # One level of 16 pixels, white noise of deviation 1. A shift of t moves all 147 values of a
    # patch, and its projection on a unit direction w by t * sum(w), where sum(w) is about N(0, 1):
    # t sqrt(2/pi) on average.
    reference = noise(200, 1.0, 0, size=16)
    moved = [image + 2.0 for image in reference]
    measured = sliced_wasserstein(moved, reference, patches=16, directions=2000)
    assert measured == pytest.approx(2.0 * (2 / torch.pi) ** 0.5, rel=0.1)


def test_a_set_has_distance_0_to_itself():
    images = noise(4, 0.3, 0)
    assert sliced_wasserstein(images, [image.clone() for image in images]) == 0


def test_the_same_seed_gives_the_same_value_and_sizes_may_differ():
    one, two = noise(4, 0.3, 0), noise(3, 0.4, 1, size=48)
    assert sliced_wasserstein(one, two) == sliced_wasserstein(one, two)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    sliced_wasserstein(one, two)
    assert torch.equal(before, torch.get_rng_state())
