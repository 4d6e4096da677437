"""Augmentation of discriminator inputs: the published ranges, and gradients that pass."""

import pytest
import torch

from models.augmentation import AUGMENTATIONS, color, cutout, diff_augment, translation


@pytest.mark.parametrize("operation", AUGMENTATIONS)
def test_every_operation_keeps_the_shape_and_lets_gradients_through(operation):
    images = torch.rand(4, 3, 16, 24, requires_grad=True)
    changed = AUGMENTATIONS[operation](images)
    changed.sum().backward()
    assert changed.shape == images.shape
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_translation_moves_up_to_an_eighth_and_fills_with_zeros():
    images = torch.zeros(500, 1, 16, 16)
    images[:, 0, 8, 8] = 1.0
    moved = translation(images)
    indices = moved.flatten(1).argmax(dim=1)
    assert set((indices // 16).tolist()) == set((indices % 16).tolist()) == {6, 7, 8, 9, 10}
    ones = translation(torch.ones(500, 1, 16, 16))
    assert set(ones.unique().tolist()) == {0.0, 1.0}
    # Two rows or columns of 16 at most are lost on either axis.
    assert ones.mean(dim=(1, 2, 3)).min() >= (14 / 16) ** 2


def test_a_cutout_is_a_square_of_half_the_size_or_less_at_the_border():
    holes = 1 - cutout(torch.ones(500, 1, 16, 16))
    fractions = holes.mean(dim=(1, 2, 3))
    assert fractions.max() == 0.25
    assert fractions.min() < 0.25  # cut off by the border


def test_color_changes_brightness_saturation_and_contrast_within_their_ranges():
    # A grey image of one value has neither saturation nor contrast: only brightness changes it.
    moved = color(torch.zeros(1000, 3, 4, 4)).mean(dim=(1, 2, 3))
    assert -0.5 <= moved.min() < -0.45
    assert 0.45 < moved.max() <= 0.5
    # Saturation and contrast scale a color whose mean is zero at every pixel.
    image = torch.tensor([0.5, 0.0, -0.5]).view(1, 3, 1, 1).expand(1000, 3, 4, 4)
    spread = color(image)
    scale = (spread[:, 0] - spread[:, 2])[:, 0, 0]
    assert 0 <= scale.min() < 0.1
    assert 2.3 < scale.max() <= 3.0  # 2 * 1.5


def test_the_probability_is_the_fraction_of_augmented_images():
    images = torch.ones(4000, 1, 8, 8)
    assert diff_augment(images, ["cutout"], 0.0).equal(images)
    changed = (diff_augment(images, ["cutout"], torch.tensor(0.3)) != images).flatten(1).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.03)  # 4 standard errors


def test_each_image_has_random_numbers_of_its_own():
    assert len({float(x) for x in color(torch.zeros(8, 3, 4, 4)).mean(dim=(1, 2, 3))}) == 8
