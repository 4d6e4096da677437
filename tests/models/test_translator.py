"""Translators: images of any size through a network that needs multiples of 4."""

import pytest
import torch
from torch import nn

from models.translator import DeterministicTranslator, round_up_to_multiple


class Recorder(nn.Module):
    """A generator that stores its input and returns it."""

    def forward(self, image):
        self.input = image
        return image


def translator() -> tuple[DeterministicTranslator, Recorder]:
    recorder = Recorder()
    return DeterministicTranslator(recorder, "a", "b", 3, 3, multiple=4, minimum=8), recorder


@pytest.mark.parametrize(
    ("side", "fits"), [(1, 8), (8, 8), (9, 12), (255, 256), (256, 256), (257, 260)]
)
def test_a_side_is_rounded_up_to_the_next_that_fits(side, fits):
    assert round_up_to_multiple(side, 4, 8) == fits


@pytest.mark.parametrize("size", [(255, 257), (8, 12), (3, 9), (1, 1), (2, 400)])
def test_the_network_gets_a_size_that_fits_and_the_result_has_the_size_of_the_input(size):
    translate, recorder = translator()
    image = torch.rand(2, 3, *size)
    assert torch.equal(translate(image), image)
    assert all(side % 4 == 0 and side >= 8 for side in recorder.input.shape[-2:])


def test_a_size_that_fits_reaches_the_network_unchanged():
    translate, recorder = translator()
    image = torch.rand(1, 3, 16, 20)
    translate(image)
    assert recorder.input is image


def test_the_padding_is_a_reflection():
    translate, recorder = translator()
    image = torch.arange(10.0).expand(1, 3, 10, 10)
    translate(image)
    assert recorder.input[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7]
