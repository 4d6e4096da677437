"""Parameter counts, receptive fields, shapes and initial weights of the published networks."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import methods
from models.networks.discriminators.patch_discriminator import (
    PatchDiscriminator,
    apply_spectral_norm,
    pyramid,
)
from models.networks.generators.build import build_generator
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator, forward_concatenated
from models.networks.layers.attention import SelfAttention
from models.networks.layers.norm_act_pad import NormActPad
from models.networks.layers.op_backends import (
    KernelSet,
    fusible_norm_act_pad,
    instance_norm_act_pad,
    reflected,
)
from tests.conftest import shrink


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 11_378_179), ({"blocks": 6}, 7_837_699), ({"channels": 32}, 2_850_563),
        ({"channels": 16}, 715_651), ({"norm": "batch"}, 11_383_427),
        ({"upsampling": "resize"}, 11_378_179),
    ],
)  # fmt: skip
def test_the_generator_has_the_published_number_of_parameters(changes, expected):
    assert count(ResnetGenerator(3, 3, GeneratorConfig(**changes))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 2_764_737), ({"layers": 1}, 136_385), ({"layers": 2}, 662_977),
        ({"layers": 4}, 6_959_553),
        ({"layers": 5}, 11_154_369), ({"norm": "batch"}, 2_765_633), ({"kind": "pixel"}, 8_705),
        ({"kind": "pixel", "norm": "batch"}, 8_832),
    ],
)  # fmt: skip
def test_the_discriminator_has_the_published_number_of_parameters(changes, expected):
    assert count(PatchDiscriminator(3, PatchDiscriminator.Config(**changes))) == expected


def without_norm(module: nn.Module) -> nn.Module:
    """Remove the norms, which make every gradient global, to measure receptive fields."""
    for part in module.modules():
        if isinstance(part, NormActPad):
            part.kernels = KernelSet(
                norm_act_pad=lambda x, shortcut, slope, padding: F.pad(
                    x if shortcut is None else x + shortcut, (padding,) * 4, mode="reflect"
                )
            )
        elif isinstance(part, nn.Tanh):
            part.forward = lambda x: x
    return module


def receptive_field(module: nn.Module, size: int) -> int:
    """Return how many pixels of a row influence the centre of the output."""
    torch.nn.init.ones_(torch.empty(1))
    for parameter in without_norm(module).parameters():
        nn.init.constant_(parameter, 0.01)
    image = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    scores = module.double()(image)
    middle = scores.shape[-1] // 2
    scores[0, 0, middle, middle].backward()
    assert image.grad is not None
    return int((image.grad[0, 0].abs().sum(0) > 0).sum())


@pytest.mark.parametrize(("layers", "expected"), [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_a_score_has_the_published_receptive_field(layers, expected):
    config = PatchDiscriminator.Config(channels=1, layers=layers)
    assert receptive_field(PatchDiscriminator(1, config), 512) == expected


@pytest.mark.parametrize(("blocks", "expected"), [(3, 69), (6, 117), (9, 165)])
def test_the_receptive_field_of_a_generated_pixel_grows_with_the_blocks(blocks, expected):
    config = GeneratorConfig(channels=1, blocks=blocks)
    assert receptive_field(ResnetGenerator(1, 1, config), 256) == expected


@pytest.mark.parametrize(("size", "scores"), [(256, 30), (128, 14), (64, 6), (32, 2), (24, 1)])
def test_the_discriminator_gives_the_published_number_of_scores(size, scores):
    discriminator = PatchDiscriminator(3, PatchDiscriminator.Config(channels=2))
    assert discriminator(torch.zeros(1, 3, size, size)).shape == (1, 1, scores, scores)
    assert discriminator.score_size(size) == scores


def test_23_pixels_are_too_few_for_70x70_patches():
    discriminator = PatchDiscriminator(3, PatchDiscriminator.Config(channels=2))
    assert discriminator.score_size(23) < 1
    with pytest.raises(ValueError, match="spatial"):
        discriminator(torch.zeros(1, 3, 23, 23))


def test_the_pixel_discriminator_scores_every_pixel_alone():
    discriminator = without_norm(
        PatchDiscriminator(3, PatchDiscriminator.Config(kind="pixel", channels=2))
    )
    assert (
        receptive_field(
            PatchDiscriminator(1, PatchDiscriminator.Config(kind="pixel", channels=1)), 16
        )
        == 1
    )
    assert discriminator(torch.zeros(1, 3, 9, 7)).shape == (1, 1, 9, 7)


def test_initial_weights_are_gaussian_of_deviation_0_02_and_biases_are_zero():
    generator = ResnetGenerator(3, 3, GeneratorConfig(blocks=1))
    weight = generator.trunk[0].first.weight
    assert weight.numel() == 589_824
    # Three standard errors of a deviation over n draws: 3 * 0.02 / sqrt(2 n) = 5.5e-5.
    assert weight.std().item() == pytest.approx(0.02, abs=3 * 0.02 / math.sqrt(2 * weight.numel()))
    assert weight.mean().item() == pytest.approx(0, abs=3 * 0.02 / math.sqrt(weight.numel()))
    assert all(not p.any() for name, p in generator.named_parameters() if name.endswith("bias"))


def test_there_is_no_activation_after_the_sum_of_a_residual_block():
    generator = ResnetGenerator(3, 3, GeneratorConfig(channels=4, blocks=1))
    assert (generator.trunk(torch.full((1, 16, 8, 8), -1.0)) < 0).any()


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_two_batches_in_one_forward_have_the_outputs_of_separate_forwards(norm):
    generator = ResnetGenerator(3, 3, GeneratorConfig(channels=4, blocks=1, norm=norm))
    one, two = torch.rand(2, 3, 16, 16), torch.rand(1, 3, 16, 16)
    for joint, image in zip(forward_concatenated(generator, one, two), (one, two), strict=True):
        assert torch.allclose(joint, generator(image), atol=1e-6)


def test_dropout_is_drawn_in_training_only():
    generator = ResnetGenerator(3, 3, GeneratorConfig(channels=4, blocks=1, dropout=0.5))
    image = torch.rand(1, 3, 16, 16)
    assert not torch.equal(generator(image), generator(image))
    generator.eval()
    assert torch.equal(generator(image), generator(image))


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("shortcut", [False, True])
def test_the_fusible_form_of_the_norm_computes_the_same_forward_and_backward(
    slope, padding, shortcut
):
    x = torch.randn(2, 5, 8, 9).requires_grad_()
    added = torch.randn(2, 5, 8, 9).requires_grad_() if shortcut else None
    inputs = [x] if added is None else [x, added]
    results = []
    for kernel in (instance_norm_act_pad, fusible_norm_act_pad):
        y = kernel(x, added, slope, padding)
        results.append(
            [y, *torch.autograd.grad((y * torch.arange(y.numel()).view_as(y).sin()).sum(), inputs)]
        )
    for one, two in zip(*results, strict=True):
        assert torch.allclose(one, two, atol=1e-5)
    assert results[0][0].shape == (2, 5, 8 + 2 * padding, 9 + 2 * padding)


def test_an_instance_norm_gives_every_channel_mean_0_and_variance_1():
    y = NormActPad(3, "instance", slope=1.0)(torch.randn(2, 3, 16, 16) * 5 + 3)
    assert torch.allclose(y.mean((2, 3)), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(y.var((2, 3), correction=0), torch.ones(2, 3), atol=1e-4)


def test_recomputing_the_trunk_changes_neither_output_nor_gradient():
    generator = ResnetGenerator(3, 3, GeneratorConfig(channels=4, blocks=2, dropout=0.3))
    image, results = torch.rand(1, 3, 16, 16), []
    for recompute in (False, True):
        generator.recompute_trunk = recompute
        generator.zero_grad()
        torch.manual_seed(5)
        loss = generator(image).square().sum()
        loss.backward()
        gradients = [p.grad.clone() for p in generator.parameters() if p.grad is not None]
        assert len(gradients) == 11  # of ten weights and the last bias
        results.append([loss.detach(), *gradients])
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(*results, strict=True))


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_bias_that_the_norm_cancels_has_no_gradient_and_changes_nothing(norm, upsampling):
    config = GeneratorConfig(channels=4, blocks=1, norm=norm, upsampling=upsampling)
    generator = ResnetGenerator(3, 3, config).double()
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    image = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    training = generator(image)
    training.sum().backward()
    with torch.no_grad():
        assert torch.allclose(generator(image), training, atol=1e-12)
    untouched = [p for p in generator.parameters() if p.grad is None]
    # Three in the encoder, two in the block, two in the decoder; none where the norm is affine.
    assert len(untouched) == (7 if norm == "instance" else 0)


@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_bf16_features_are_normed_with_float32_statistics(mean):
    torch.manual_seed(0)
    x = (torch.randn(2, 3, 32, 32) + mean).bfloat16()
    normed = instance_norm_act_pad(x, None, 1.0, 0)
    expected = F.instance_norm(x.double())
    assert normed.dtype == torch.bfloat16
    # Rounding the result to bf16 costs 0.0017; statistics in bf16 cost 0.015 at a mean of 10.
    assert ((normed.double() - expected).norm() / expected.norm()).item() < 0.003


@pytest.mark.parametrize(
    ("num_downs", "norm", "expected"),
    [
        (8, "instance", 54_409_603), (8, "batch", 54_413_955),
        (7, "instance", 41_825_667), (7, "batch", 41_828_995),
    ],
)  # fmt: skip
def test_the_unets_have_the_published_number_of_parameters(num_downs, norm, expected):
    config = GeneratorConfig(kind="unet", num_downs=num_downs, norm=norm)
    assert count(build_generator(3, 3, config)) == expected


def test_a_unet_preserves_the_size_and_has_a_skip_connection_at_every_level():
    config = GeneratorConfig(kind="unet", num_downs=3, channels=4)
    network = build_generator(3, 1, config)
    assert network.multiple == network.minimum == 8
    assert network(torch.rand(1, 3, 16, 24)).shape == (1, 1, 16, 24)
    # Only the skip connections distinguish positions when the levels below get a constant.
    with torch.no_grad():
        network.block.below.down.weight.zero_()  # pyright: ignore
    one, other = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    other[..., 3, 3] = 1.0
    assert not network(one).equal(network(other))


def test_dropout_of_a_unet_is_at_its_innermost_levels_of_full_width():
    network = build_generator(3, 3, GeneratorConfig(kind="unet", dropout=0.5, channels=4))
    assert sum(isinstance(part, nn.Dropout) for part in network.modules()) == 3


def test_attention_starts_as_the_identity_and_then_sees_the_whole_map():
    layer = SelfAttention(16)
    x = torch.rand(1, 16, 4, 5)
    assert layer(x).equal(x)
    with torch.no_grad():
        layer.gamma.fill_(1.0)
    # Reference: softmax over all positions of query . key, undivided.
    q, k, v = (conv(x).flatten(2)[0] for conv in (layer.query, layer.key, layer.value))
    attended = v @ (q.T @ k).softmax(dim=1).T
    expected = x + layer.out(attended.view(1, 8, 4, 5))
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_a_new_generator_with_attention_equals_one_without():
    torch.manual_seed(0)
    attentive = ResnetGenerator(3, 3, GeneratorConfig(channels=4, blocks=1, attention=True))
    plain = ResnetGenerator(3, 3, GeneratorConfig(channels=4, blocks=1))
    plain.load_state_dict(attentive.state_dict(), strict=False)
    image = torch.rand(1, 3, 16, 16)
    assert attentive(image).equal(plain(image))


def test_further_scales_score_the_image_at_a_half_and_a_quarter():
    config = PatchDiscriminator.Config(channels=4, layers=1, scales=3)
    discriminator = PatchDiscriminator(3, config)
    scores = discriminator(torch.rand(1, 3, 64, 64))
    assert [score.shape[-1] for score in scores] == [30, 14, 6]
    assert discriminator.score_size(64) == 6
    one = PatchDiscriminator(3, PatchDiscriminator.Config(channels=4, layers=1))
    assert count(discriminator) == 3 * count(one)
    constant = torch.full((1, 3, 9, 9), 0.7)
    # The average is exact at the borders too.
    assert all(torch.allclose(x, x.new_tensor(0.7)) for x in pyramid(constant, 3))


@pytest.mark.parametrize("kind", ["patch", "pixel"])
def test_a_discriminator_without_norms_trains_all_its_biases(kind):
    image = torch.rand(1, 3, 32, 32)
    for norm, parts in (("none", 0), ("instance", 1)):
        discriminator = PatchDiscriminator(
            3, PatchDiscriminator.Config(kind=kind, channels=4, layers=1, norm=norm)
        )
        assert sum(isinstance(layer, NormActPad) for layer in discriminator.modules()) == parts
        discriminator(image).square().mean().backward()
        trained = [
            n for n, p in discriminator.named_parameters() if p.grad is not None and p.grad.any()
        ]
        # A norm cancels the second layer's bias.
        assert sum(name.endswith("bias") for name in trained) == 3 - parts


def test_spectral_norm_divides_by_the_largest_singular_value():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([3.0, 1.0])))
    network = nn.Sequential(layer)
    apply_spectral_norm(network)
    for _ in range(30):
        network(torch.rand(1, 2))
    assert torch.allclose(layer.weight, torch.diag(torch.tensor([1.0, 1 / 3])), atol=1e-5)


@pytest.mark.parametrize(
    ("network", "size", "expected"),
    [
        (lambda: ResnetGenerator(3, 3, GeneratorConfig()), 16, 11_372_931),
        (lambda: PatchDiscriminator(3, PatchDiscriminator.Config()), 32, 2_763_841),
    ],
)
def test_without_the_biases_that_a_norm_cancels_counts_are_the_published_ones(
    network, size, expected
):
    built = network()
    built(torch.rand(1, 3, size, size)).square().sum().backward()
    assert sum(p.numel() for p in built.parameters() if p.grad is not None) == expected


@pytest.mark.parametrize(
    "name", [name for name in methods.names() if hasattr(shrink(name), "discriminator")]
)
def test_every_discriminator_supports_spectral_norm(name):
    config = shrink(name)
    config = replace(config, discriminator=replace(config.discriminator, spectral=True))
    method = methods.find(name)(config, {"a": 3, "b": 3})
    layers = [x for x in method.modules() if hasattr(x, "parametrizations")]
    assert layers
    groups = [
        group for n, group in method.optimizer_groups().items() if n.startswith("discriminator")
    ]
    assert all(any(hasattr(x, "parametrizations") for x in p.modules()) for p in groups)
    layer = layers[0]
    for _ in range(60):  # one power iteration each
        weight = layer.weight
    assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, rel=1e-2)


def test_the_vectors_of_spectral_norm_are_in_the_state_dict():
    config = PatchDiscriminator.Config(channels=4, layers=1, spectral=True)
    discriminator = PatchDiscriminator(3, config)
    plain = PatchDiscriminator(3, PatchDiscriminator.Config(channels=4, layers=1))
    assert count(discriminator) == count(plain)
    # One vector for each layer.
    assert sum(name.endswith("._u") for name in discriminator.state_dict()) == 3


def test_reflection_concatenated_from_slices_equals_torch_s():
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    for padding in (1, 3):
        sliced = reflected(reflected(x, padding, 2), padding, 3)
        whole = F.pad(x, (padding,) * 4, mode="reflect")
        assert sliced.equal(whole)
        weights = torch.rand_like(whole)
        one, two = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (sliced, whole))
        assert torch.allclose(one, two, atol=1e-12)


def norm_free_unet(**options):
    options = {"num_downs": 3, "channels": 4, "init_type": "kaiming"} | options
    return build_generator(3, 3, GeneratorConfig(kind="norm_free_unet", **options))


def test_a_norm_free_unet_has_the_parameters_of_its_layers():
    # Two convolutions at each of the widths 16, 32, 64, 64, 64, and back: (in 9 + 1) out each.
    widths = [16, 32, 64, 64, 64]
    pairs = [*zip([3, *widths], widths, strict=False)]
    pairs += [
        (below + width, width) for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
    ]
    expected = sum((9 * i + 1) * o + (9 * o + 1) * o for i, o in pairs) + (9 * 16 + 1) * 3
    assert count(norm_free_unet(num_downs=4, channels=16)) == expected == 487_843


def test_a_norm_free_unet_preserves_sizes_that_are_multiples_of_its_own():
    network = norm_free_unet()
    assert network.multiple == network.minimum == 8
    assert network(torch.rand(1, 3, 16, 24)).shape == (1, 3, 16, 24)


def test_a_norm_free_unet_has_a_skip_connection_at_full_size():
    network = norm_free_unet()
    with torch.no_grad():
        for layer in network.up[:-1].modules():  # pyright: ignore
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
    one = torch.rand(1, 3, 16, 16)
    other = one.clone()
    other[..., 5, 6] += 0.5
    changed = (network(one) - network(other)).abs().sum(dim=1)[0] > 0
    # Only five consecutive 3x3 convolutions at full size remain: a radius of five pixels.
    rows, columns = changed.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 10, 1, 11)


def test_a_norm_free_unet_preserves_the_mean_that_a_norm_would_remove():
    network = norm_free_unet()
    dark, bright = torch.full((1, 3, 16, 16), -0.5), torch.full((1, 3, 16, 16), 0.5)
    assert (network(dark) - network(bright)).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"norm": "batch"}, "has neither"),
        ({"dropout": 0.5}, "has neither"),
        ({"init_type": "normal"}, "init_type=kaiming"),
        ({"antialiased": True}, "kind=resnet"),
    ],
)
def test_options_that_a_norm_free_unet_does_not_have_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        norm_free_unet(**options)
