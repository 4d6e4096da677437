"""The networks of StarGAN v2, layer by layer."""

import math

import pytest
import torch
from torch import nn

from models.networks.generators.stargan_v2_generator import StyleGenerator, high_passed
from models.networks.layers.conv_encoder import ConvEncoder
from models.networks.layers.stargan_v2_blocks import (
    AdaptiveInstanceNorm,
    StarGANv2AdaINBlock,
    StarGANv2ResidualBlock,
)
from models.networks.mapping_and_style_encoder import MappingNetwork


def test_adaptive_instance_norm_gives_features_the_mean_and_deviation_of_the_style():
    norm = AdaptiveInstanceNorm(2, 3)
    nn.init.zeros_(norm.affine.weight)
    norm.affine.bias.data = torch.tensor([0.5, 1.0, -2.0, 3.0])  # gamma, gamma, beta, beta
    normed = norm(torch.randn(1, 2, 64, 64) * 7 + 5, torch.zeros(1, 3))
    assert normed.mean(dim=(2, 3)).flatten().tolist() == pytest.approx([-2, 3], abs=1e-4)
    deviation = normed.std(dim=(2, 3), correction=0).flatten().tolist()
    assert deviation == pytest.approx([1.5, 2.0], rel=1e-4)  # 1 + gamma


def test_a_block_of_zero_weights_is_its_shortcut_over_the_root_of_two():
    x = torch.rand(1, 4, 8, 8)
    plain = StarGANv2ResidualBlock(4, 4, normed=True, downsample=False)
    styled = StarGANv2AdaINBlock(4, 4, 3, upsample=False, residual=True)
    for block in (plain, styled):
        for parameter in block.parameters():
            nn.init.zeros_(parameter)
    torch.testing.assert_close(plain(x), x / math.sqrt(2))
    torch.testing.assert_close(styled(x, torch.zeros(1, 3)), x / math.sqrt(2))
    edges = StarGANv2AdaINBlock(4, 4, 3, upsample=False, residual=False)
    for parameter in edges.parameters():
        nn.init.zeros_(parameter)
    assert not edges(x, torch.zeros(1, 3)).any()  # high-pass features replace the shortcut


def test_a_high_pass_filter_responds_to_edges_and_not_to_flat_areas():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0  # 8 at the point, -1 around it
    expected = torch.zeros(5, 5)
    expected[1:4, 1:4] = -1
    expected[2, 2] = 8
    torch.testing.assert_close(high_passed(x)[0, 0], expected)
    inside = high_passed(torch.ones(1, 1, 5, 5))[0, 0, 1:4, 1:4]
    assert inside.abs().max() < 1e-5


def test_high_pass_skips_are_at_a_half_a_quarter_and_an_eighth_of_the_size():
    config = StyleGenerator.Config(channels=2, max_channels=4, layers=3, blocks=1, high_pass=2.0)
    generator = StyleGenerator(3, 5, config)
    assert generator.num_downs == 4  # one more than without
    for block in generator.decoder:
        for parameter in block.parameters():
            nn.init.zeros_(parameter)  # the decoder then outputs only the skips
    seen = []
    for block in generator.decoder:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    generator(torch.rand(1, 3, 64, 64), torch.zeros(1, 5))
    entered = {x.shape[-1]: bool(x.any()) for x in seen}
    # The first block gets the encoder's output at 4 pixels; its own output at 4 is zero.
    assert entered == {4: False, 8: True, 16: True, 32: True}


@pytest.mark.parametrize(("high_pass", "multiple"), [(0.0, 16), (1.0, 32)])
def test_the_generator_downsamples_as_often_as_published(high_pass, multiple):
    config = StyleGenerator.Config(channels=2, max_channels=4, high_pass=high_pass)
    generator = StyleGenerator(3, 5, config)
    assert (generator.multiple, generator.minimum) == (multiple, 2 * multiple)
    side = generator.minimum
    image = torch.rand(2, 3, side, 2 * side)
    assert generator(image, torch.rand(2, 5)).shape == image.shape


def test_images_are_encoded_as_one_vector_of_at_most_max_channels():
    features = ConvEncoder(3, 64, ConvEncoder.Config(channels=4, max_channels=16))
    # Four blocks halve 64 pixels to 4.
    assert sum(isinstance(x, StarGANv2ResidualBlock) for x in features.layers) == 4
    assert features.width == 16
    assert features(torch.rand(2, 3, 64, 64)).shape == (2, 16)


def test_networks_that_cannot_be_built_are_refused():
    with pytest.raises(ValueError, match=r"method\.mapping\.latent_dim must be at least 1, got 0"):
        MappingNetwork.Config(latent_dim=0)
    with pytest.raises(ValueError, match=r"method\.generator\.high_pass must be 0 or more"):
        StyleGenerator.Config(high_pass=-1)
    with pytest.raises(ValueError, match=r"method\.discriminator"):
        ConvEncoder.Config(max_channels=0)
