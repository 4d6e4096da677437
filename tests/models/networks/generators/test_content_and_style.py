"""The networks of UNIT and MUNIT: published counts, and the separation of content and style."""

import math

import pytest
import torch
from torch import nn

from models.networks.discriminators.multiscale_discriminator import MultiscaleDiscriminator
from models.networks.generators.content_and_style import (
    AutoencoderConfig,
    ContentEncoder,
    Decoder,
    MunitStyleEncoder,
    StyledConfig,
    StyledDecoder,
    adaptive_instance_norm,
)
from models.networks.layers.layer_norm import LayerNorm

SMALL = StyledConfig(channels=4, blocks=1, style_width=4)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_encoders_and_decoders_have_the_published_number_of_parameters():
    plain, styled = AutoencoderConfig(), StyledConfig()
    assert count(ContentEncoder(3, plain)) == 5_385_856
    assert count(Decoder(3, plain)) == 5_754_627
    assert count(MunitStyleEncoder(3, styled)) == 2_764_936
    decoder = StyledDecoder(3, styled)
    assert (count(decoder.mlp), count(decoder) - count(decoder.mlp)) == (1_120_768, 5_754_627)
    # 4 blocks of 2 norms, each with a mean and a deviation for 256 channels.
    assert decoder.mlp(torch.zeros(1, 8)).shape == (1, 4096)


def test_the_discriminator_has_the_published_number_of_parameters_at_each_of_three_scales():
    discriminator = MultiscaleDiscriminator(3, MultiscaleDiscriminator.Config())
    assert count(discriminator) == 8_271_171
    assert [count(body) for body in discriminator.bodies] == [2_757_057] * 3


@pytest.mark.parametrize(("side", "sides"), [(256, [16, 8, 4]), (64, [4, 2, 1]), (128, [8, 4, 2])])
def test_each_scale_has_half_as_many_scores_a_side(side, sides):
    discriminator = MultiscaleDiscriminator(3, MultiscaleDiscriminator.Config(channels=2))
    scores = discriminator(torch.zeros(2, 3, side, side))
    assert [tuple(score.shape) for score in scores] == [(2, 1, n, n) for n in sides]
    assert discriminator.score_size(side) == sides[-1]


def test_32_pixels_are_too_few_for_three_scales_of_four_downsamplings():
    discriminator = MultiscaleDiscriminator(3, MultiscaleDiscriminator.Config(channels=2))
    assert discriminator.score_size(32) == 0
    with pytest.raises(RuntimeError, match="[Pp]adding"):
        discriminator(torch.zeros(1, 3, 32, 32))


def test_a_content_code_has_a_quarter_of_the_size_and_a_style_is_a_vector():
    image = torch.rand(2, 3, 16, 24)
    content = ContentEncoder(3, SMALL)(image)
    style = MunitStyleEncoder(3, SMALL)(image)
    assert content.shape == (2, 16, 4, 6) and style.shape == (2, 8)
    assert Decoder(3, SMALL)(content).shape == image.shape
    assert StyledDecoder(3, SMALL)(content, style).shape == image.shape


def test_a_style_is_encoded_from_16_pixels_and_not_from_15():
    encoder = MunitStyleEncoder(3, SMALL)
    assert encoder(torch.rand(1, 3, encoder.minimum, encoder.minimum)).shape == (1, 8)
    with pytest.raises(RuntimeError, match="[Pp]adding"):
        encoder(torch.rand(1, 3, 15, 15))


def test_contrast_changes_the_style_and_not_the_content():
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    content, style = ContentEncoder(3, SMALL), MunitStyleEncoder(3, SMALL)
    # The norms' epsilon of 1e-5 matters where a channel varies little.
    assert torch.allclose(content(0.5 * image), content(image), atol=1e-2)
    assert (style(0.5 * image) - style(image)).abs().max() > 0.01


def test_an_adaptive_norm_sets_the_given_means_and_deviations():
    x = torch.randn(2, 3, 8, 8) * 5 + 7
    means, deviations = torch.randn(2, 3), torch.randn(2, 3)
    y = adaptive_instance_norm(x, torch.cat([means, deviations], dim=1))
    assert torch.allclose(y.mean(dim=(2, 3)), means, atol=1e-5)
    assert torch.allclose(y.std(dim=(2, 3), correction=0), deviations.abs(), atol=1e-5)
    # A negative deviation inverts a channel, so that its covariance with the input is negative.
    covariance = (y * x).mean(dim=(2, 3)) - y.mean(dim=(2, 3)) * x.mean(dim=(2, 3))
    assert (covariance > 0).equal(deviations > 0)


def test_every_norm_of_a_decoder_has_its_own_parameters_from_the_style():
    decoder = StyledDecoder(3, StyledConfig(channels=4, blocks=2, style_width=4))
    seen = []
    for block in decoder.trunk:
        block.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[1]))
    style = torch.randn(1, 8)
    decoder(torch.randn(1, 16, 4, 4), style)
    # 2 blocks of 2 norms of 16 channels: the output of the MLP, in order.
    assert [tuple(one.shape) for one in seen] == [(1, 32)] * 4
    assert torch.cat(seen, dim=1).equal(decoder.mlp(style))


def test_a_layer_norm_has_the_values_worked_out_by_hand():
    norm = LayerNorm(2)
    with torch.no_grad():
        norm.gamma.copy_(torch.tensor([1.0, 2.0]))
        norm.beta.copy_(torch.tensor([0.0, 3.0]))
    # A sample of 1, 2 | 3, 4: mean 2.5; unbiased variance (2.25 + 0.25 + 0.25 + 2.25) / 3 = 5 / 3.
    x = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]], [[[10.0, 20.0]], [[30.0, 40.0]]]])
    s = math.sqrt(5 / 3)
    expected = torch.tensor([[[-1.5 / s, -0.5 / s]], [[3 + 1.0 / s, 3 + 3.0 / s]]])
    assert torch.allclose(norm(x)[0], expected, atol=1e-4)
    assert torch.allclose(norm(x)[1], expected, atol=1e-4)  # ten times the input: the same


def test_the_initial_scales_of_a_layer_norm_are_between_0_and_1():
    gamma = LayerNorm(10_000).gamma
    assert gamma.min() >= 0 and gamma.max() <= 1
    # Three standard errors of the mean of U(0, 1): 3 / sqrt(12 * 10,000) = 0.009.
    assert gamma.mean().item() == pytest.approx(0.5, abs=0.009)


def test_a_layer_norm_computes_in_float32_where_features_are_bf16():
    norm, x = LayerNorm(4), torch.randn(1, 4, 64, 64) + 100
    normed = norm(x.bfloat16())
    assert normed.dtype == torch.bfloat16
    assert torch.allclose(normed.float(), norm(x.bfloat16().float()), atol=0.02)


def test_initial_weights_are_he_s_for_generators_and_gaussian_of_0_02_for_discriminators():
    encoder = ContentEncoder(3, AutoencoderConfig(blocks=1))
    weight = encoder.trunk[0].first.weight  # pyright: ignore
    deviation = math.sqrt(2 / (256 * 9))
    assert weight.std().item() == pytest.approx(deviation, rel=3 / math.sqrt(2 * weight.numel()))
    discriminator = MultiscaleDiscriminator(3, MultiscaleDiscriminator.Config(scales=1))
    weight = discriminator.bodies[0][10].weight  # pyright: ignore
    assert weight.shape == (512, 256, 4, 4)
    assert weight.std().item() == pytest.approx(0.02, rel=3 / math.sqrt(2 * weight.numel()))


@pytest.mark.parametrize("changes", [{"channels": 0}, {"blocks": 0}, {"style_dim": 0}])
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ValueError, match=f"method.generator.*{next(iter(changes))}"):
        StyledConfig(**changes)


@pytest.mark.parametrize("changes", [{"channels": 0}, {"layers": 8}, {"scales": 0}])
def test_impossible_discriminators_are_refused(changes):
    with pytest.raises(ValueError, match=f"method.discriminator.{next(iter(changes))}"):
        MultiscaleDiscriminator.Config(**changes)
