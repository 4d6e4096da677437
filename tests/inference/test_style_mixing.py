"""Interpolation, truncation and mixing of styles, as tensors and rendered by a translator."""

import pytest
import torch

from inference.style_selection import interpolate_styles, mix_styles, truncate_style
from models.methods.stargan_v2 import DomainTranslator, StarGANv2
from tests.conftest import shrink


@pytest.fixture
def translator() -> DomainTranslator:
    config = shrink("stargan_v2")
    assert isinstance(config, StarGANv2.Config)
    result = StarGANv2(config, {"a": 3, "b": 3}).translators()["a_to_b"]
    assert isinstance(result, DomainTranslator)
    return result


IMAGE = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)


def test_different_styles_give_different_images(translator):
    one, other = translator.sample_style(2).split(1)
    assert (translator(IMAGE, one) - translator(IMAGE, other)).abs().mean() > 1e-3


def test_an_interpolation_begins_at_one_style_and_ends_at_the_other(translator):
    one, other = translator.sample_style(2).split(1)
    assert interpolate_styles(one, other, 0).equal(one)
    assert interpolate_styles(one, other, 1).equal(other)
    # A quarter of the way from 0 to 4 is 1.
    assert interpolate_styles(torch.zeros(1, 2), torch.full((1, 2), 4.0), 0.25).tolist() == [[1, 1]]


def test_psi_0_is_the_mean_style_and_psi_1_the_style_itself(translator):
    style, mean = translator.sample_style(3, seed=2), translator.mean_style()
    assert truncate_style(style, mean, 0).equal(mean.expand(3, -1))
    assert truncate_style(style, mean, 1).equal(style)
    # From 2 towards 1: at psi 0.5 the middle, 1.5.
    assert truncate_style(torch.full((1, 1), 2.0), torch.ones(1, 1), 0.5).item() == 1.5
    rendered = translator(IMAGE, truncate_style(style[:1], mean, 0))
    assert rendered.equal(translator(IMAGE))  # the mean style is the default


def test_one_style_in_every_block_is_that_style(translator):
    one, other = translator.sample_style(2).split(1)
    blocks = translator.style_blocks
    assert blocks == 2  # one at the lowest resolution, one that upsamples
    for count, whole in ((0, other), (blocks, one)):
        style = mix_styles(one, other, blocks, count)
        assert style.shape == (1, blocks, 64)
        torch.testing.assert_close(translator(IMAGE, style), translator(IMAGE, whole))
    between = translator(IMAGE, mix_styles(one, other, blocks, 1))
    assert not between.equal(translator(IMAGE, one))
    assert not between.equal(translator(IMAGE, other))


def test_the_coarse_style_has_the_first_blocks():
    style = mix_styles(torch.zeros(1, 1), torch.ones(2, 1), blocks=3, coarse_blocks=2)
    assert style[..., 0].tolist() == [[0, 0, 1], [0, 0, 1]]
    with pytest.raises(ValueError, match="coarse_blocks must be 0 to 3, got 4"):
        mix_styles(torch.zeros(1, 1), torch.ones(1, 1), blocks=3, coarse_blocks=4)
