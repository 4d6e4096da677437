"""The generator of UVCGAN v2: its size, its styles, and token grids of any size."""

import pytest
import torch
import torch.nn.functional as F

from models.networks.generators.modulated_unet import ModulatedConvolution, ModulatedUnet
from models.networks.layers.token_transformer import TokenTransformer, TransformerBlock, grid


def tiny(**changes) -> ModulatedUnet:
    config = {"channels": 4, "levels": 2, "blocks": 2, "embed_dim": 8, "num_heads": 2} | changes
    return ModulatedUnet(3, 3, ModulatedUnet.Config(**config))


def randomized(network: torch.nn.Module) -> torch.nn.Module:
    """Replace all parameters, including those that start at 0, with random values."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
    return network


def test_the_generator_of_the_paper_has_32_192_231_parameters():
    # Counted in the authors' network (their preset uvcgan2, 256 pixels); with equal weights the two
    # gave the same images up to 1e-11 in double precision.
    network = ModulatedUnet(3, 3, ModulatedUnet.Config())
    assert sum(p.numel() for p in network.parameters()) == 32_192_231


def test_a_modulated_convolution_has_the_weights_of_stylegan_2():
    # Eq. 1: w' = s_i w_ij; Eq. 3: w'' = w' / sqrt(sum over inputs and positions of w'^2 + eps).
    layer = randomized(ModulatedConvolution(3, 5, 4))
    assert isinstance(layer, ModulatedConvolution)
    with torch.no_grad():
        layer.convolution.bias.zero_()  # pyright: ignore[reportOptionalMemberAccess]
        x, style = torch.randn(2, 3, 6, 7), torch.randn(2, 4)
        for one, token, output in zip(x, style, layer(x, style), strict=True):
            scale = 1 + layer.strength * layer.style(token)
            scaled = layer.convolution.weight * scale[:, None, None]
            weight = scaled / (scaled.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-6).sqrt()
            expected = F.leaky_relu(F.conv2d(one, weight, padding=1), 0.01)
            assert output.allclose(expected, atol=1e-5)


def test_an_image_is_modulated_by_its_own_token_alone():
    network, images = randomized(tiny()), torch.rand(2, 3, 8, 12) * 2 - 1
    with torch.no_grad():
        both = network(images)
        separate = torch.cat([network(image[None]) for image in images])
    assert both.allclose(separate, atol=1e-5)


def test_the_extra_token_reaches_the_image_once_styles_have_a_strength():
    network, image = tiny(init_type="xavier"), torch.rand(1, 3, 8, 8)

    def changed() -> bool:
        with torch.no_grad():
            before = network(image)
            network.transformer.extra.add_(1.0)
            return not network(image).equal(before)

    assert not changed()  # every strength starts at 0
    with torch.no_grad():
        for name, parameter in network.up.named_parameters():
            if name.endswith("strength"):
                parameter.fill_(5.0)
    assert changed()


def test_a_new_block_of_the_transformer_is_the_identity():
    tokens = torch.randn(2, 5, 8)
    assert TransformerBlock(8, 2, 4)(tokens).equal(tokens)


def test_positions_run_from_one_end_to_the_other_of_any_grid():
    rows, columns = grid(3, 2, torch.device("cpu")).unbind(dim=2)
    assert rows.tolist() == [[-1, -1], [0, 0], [1, 1]]
    assert columns.tolist() == [[-1, 1], [-1, 1], [-1, 1]]
    assert grid(1, 1, torch.device("cpu")).tolist() == [[[-1, -1]]]


@pytest.mark.parametrize("size", [(4, 4), (8, 20), (40, 4)])
def test_any_grid_of_tokens_is_supported(size):
    images = torch.rand(1, 3, *size) * 2 - 1
    assert randomized(tiny())(images).shape == images.shape


def test_the_position_alone_distinguishes_tokens():
    network = randomized(TokenTransformer(4, 8, num_heads=2, blocks=2, mlp_ratio=4))
    with torch.no_grad():
        features, _ = network(torch.zeros(1, 4, 3, 5))
    # A constant map has 15 different outputs at its 15 positions.
    assert features[0].flatten(1).T.round(decimals=4).unique(dim=0).shape == (15, 4)


def test_a_network_of_zeros_gives_the_middle_of_the_range():
    # sigmoid(0) = 1/2 in [0, 1] is 0 in [-1, 1].
    network = tiny()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        assert network(torch.rand(1, 3, 8, 8)).abs().max() == 0
        network.exit.bias.fill_(1.0)  # pyright: ignore[reportOptionalMemberAccess]
        # 2 sigmoid(1) - 1 = 0.462117
        assert network(torch.rand(1, 3, 8, 8)).flatten()[0].item() == pytest.approx(0.462117)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"embed_dim": 9}, "multiple of"), ({"levels": 0}, "levels must be at least 1"),
     ({"levels": 11}, "at most 10"), ({"blocks": -1}, "blocks must be 0 or more")],
)  # fmt: skip
def test_options_of_a_generator_that_cannot_be_built_are_named(changes, reason):
    with pytest.raises(ValueError, match=rf"method\.generator\..*{reason}"):
        ModulatedUnet.Config(**changes)
