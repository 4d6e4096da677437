"""What a discriminator sees when it is augmented: the published ranges, and gradients that pass."""

import pytest
import torch

from models.augmentation import AUGMENTATIONS, color, cutout, diff_augment, translation


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_every_kind_keeps_the_shape_and_lets_gradients_through(kind):
    images = torch.rand(4, 3, 16, 24, requires_grad=True)
    changed = AUGMENTATIONS[kind](images)
    changed.sum().backward()
    assert changed.shape == images.shape
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_shift_moves_up_to_an_eighth_and_fills_with_zeros():
    images = torch.zeros(500, 1, 16, 16)
    images[:, 0, 8, 8] = 1.0
    moved = translation(images)
    places = moved.flatten(1).argmax(dim=1)
    assert set((places // 16).tolist()) == set((places % 16).tolist()) == {6, 7, 8, 9, 10}
    ones = translation(torch.ones(500, 1, 16, 16))
    assert set(ones.unique().tolist()) == {0.0, 1.0}
    # Two rows or columns of 16 at most are lost on either axis.
    assert ones.mean(dim=(1, 2, 3)).min() >= (14 / 16) ** 2


def test_a_cutout_is_a_square_of_half_the_size_or_less_at_the_border():
    holes = 1 - cutout(torch.ones(500, 1, 16, 16))
    shares = holes.mean(dim=(1, 2, 3))
    assert shares.max() == 0.25
    assert shares.min() < 0.25  # where it hangs over the border


def test_colour_changes_brightness_saturation_and_contrast_within_their_ranges():
    # A grey image of one value has neither saturation nor contrast: what moves it is the brightness.
    moved = color(torch.zeros(1000, 3, 4, 4)).mean(dim=(1, 2, 3))
    assert -0.5 <= moved.min() < -0.45
    assert 0.45 < moved.max() <= 0.5
    # Around a mean of zero in every place, a colour is scaled by the saturation and the contrast.
    image = torch.tensor([0.5, 0.0, -0.5]).view(1, 3, 1, 1).expand(1000, 3, 4, 4)
    spread = color(image)
    scale = (spread[:, 0] - spread[:, 2])[:, 0, 0]
    assert 0 <= scale.min() < 0.1
    assert 2.3 < scale.max() <= 3.0  # 2 * 1.5


def test_probability_says_how_many_images_are_touched():
    images = torch.ones(4000, 1, 8, 8)
    assert diff_augment(images, ["cutout"], 0.0).equal(images)
    touched = (diff_augment(images, ["cutout"], torch.tensor(0.3)) != images).flatten(1).any(dim=1)
    assert touched.float().mean().item() == pytest.approx(0.3, abs=0.03)  # 4 standard errors


def test_images_are_drawn_one_by_one():
    assert len({float(x) for x in color(torch.zeros(8, 3, 4, 4)).mean(dim=(1, 2, 3))}) == 8
