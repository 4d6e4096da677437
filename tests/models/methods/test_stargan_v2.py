"""StarGAN v2: facts of the paper and of the authors' code, and losses worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from models.losses.gradient_penalty import r1, squared_gradients
from models.methods.stargan_v2 import (
    DomainTranslator,
    StarGANv2,
    sample_references,
    sample_sources,
)
from models.networks.generators.stargan_v2_generator import StyleGenerator
from options.load import train_options
from tests.conftest import shrink

CHANNELS = {"a": 3, "b": 3}


def small(channels=CHANNELS, **changes) -> StarGANv2:
    config = shrink("stargan_v2")
    assert isinstance(config, StarGANv2.Config)
    return StarGANv2(replace(config, **changes), channels)


def batch(domains="ab", rows: int = 2):
    torch.manual_seed(1)
    return {domain: torch.rand(rows, 3, 16, 16) * 2 - 1 for domain in domains}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def zeroed(method: StarGANv2) -> StarGANv2:
    for parameter in method.parameters():
        nn.init.zeros_(parameter)
    return method


@pytest.mark.parametrize(
    ("domains", "high_pass", "counts"),
    [
        ("ab", 0.0, (33_892_995, 2_438_272, 20_916_928, 20_852_290)),
        ("abc", 1.0, (43_467_395, 3_259_072, 20_949_760, 20_852_803)),
    ],
)
def test_parameter_counts_are_the_published_ones(domains, high_pass, counts):
    generator = StyleGenerator.Config(high_pass=high_pass)
    config = StarGANv2.Config(generator=generator)
    with torch.device("meta"):
        method = StarGANv2(config, dict.fromkeys(domains, 3))
    networks = (method.generator, method.mapping, method.style_encoder, method.discriminator)
    assert tuple(map(count, networks)) == counts


def test_weights_are_initialized_as_by_he():
    generator = StyleGenerator(3, 64, StyleGenerator.Config(max_channels=128, layers=1))
    middle = [p for p in generator.parameters() if p.shape == (128, 128, 3, 3)]
    # fan in 128 * 9: sqrt(2 / 1152) = 0.041667
    assert torch.stack([p.std() for p in middle]).mean().item() == pytest.approx(0.041667, rel=3e-3)
    assert all(not p.any() for n, p in generator.named_parameters() if n.endswith("bias"))


def test_the_order_of_updates_is_that_of_the_code():
    assert [update.groups for update in small().updates(batch(), 0)] == [
        ("discriminator",),
        ("discriminator",),
        ("generator", "mapping", "style_encoder"),
        ("generator",),
    ]


def test_losses_of_zero_networks_are_those_worked_out_by_hand():
    # D: softplus(0) twice = 2 ln 2, a constant D has no gradient; G: ln 2; styles and images are 0.
    method = zeroed(small())
    images = {"a": torch.full((2, 3, 16, 16), 0.5), "b": torch.full((2, 3, 16, 16), -0.25)}
    losses = {k: v.item() for update in method.updates(images, 0) for k, v in update.losses.items()}
    expected = {}
    for of in ("latent", "reference"):
        expected |= {
            f"discriminator_{of}": 2 * math.log(2), f"penalty_{of}": 0.0,
            f"adversarial_{of}": math.log(2), f"style_{of}": 0.0, f"diversity_{of}": 0.0,
        }  # fmt: skip
    cycles = {losses.pop("cycle_latent"), losses.pop("cycle_reference")}
    assert losses == pytest.approx(expected)
    # G returns 0, each of 4 sources differs by 0.5 or 0.25: their mean is one of five numbers.
    assert len(cycles) == 1 and cycles <= {0.25, 0.3125, 0.375, 0.4375, 0.5}


def test_the_penalty_of_a_sum_over_48_pixels():
    # D(x) = 0.1 sum x over 48 pixels: |grad|^2 = 48 * 0.01 = 0.48, half of it is 0.24.
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    scores = 0.1 * images.flatten(1).sum(dim=1)
    assert r1(squared_gradients([scores], images)).item() == pytest.approx(0.24)


def test_each_row_has_the_style_and_the_score_of_its_own_domain():
    method = small(dict.fromkeys("abc", 3))
    images = torch.rand(6, 3, 16, 16)
    latent = torch.randn(6, 16)
    for domain in range(3):
        rows = slice(2 * domain, 2 * domain + 2)
        full, single = method.mapping(latent)[rows], method.mapping(latent[rows], domain)
        torch.testing.assert_close(full, single)
        full, single = (
            method.style_encoder(images)[rows],
            method.style_encoder(images[rows], domain),
        )
        torch.testing.assert_close(full, single)
        every = method.discriminator.heads(method.discriminator.features(images))
        torch.testing.assert_close(
            method.discriminator(images)[rows], every[rows, domain : domain + 1]
        )


def test_sources_are_of_every_domain_and_of_the_target_only_if_enabled():
    device = torch.device("cpu")
    domain = torch.arange(6).repeat_interleave(1) // 2  # three domains of two rows
    seen = {True: set(), False: set()}
    for own in seen:
        for _ in range(100):
            source = sample_sources(3, 6, own, device)
            assert (source % 2).equal(torch.arange(6) % 2)
            seen[own] |= set(zip(domain.tolist(), (source // 2).tolist(), strict=True))
    pairs = {(target, source) for target in range(3) for source in range(3)}
    assert seen == {True: pairs, False: {(x, y) for x, y in pairs if x != y}}


def test_references_are_two_other_rows_of_the_same_domain():
    for per_domain in (2, 3, 5):
        place = torch.arange(3 * per_domain)
        for _ in range(50):
            first, second = sample_references(3, 3 * per_domain, torch.device("cpu"))
            assert (first // per_domain).equal(place // per_domain)
            assert (second // per_domain).equal(place // per_domain)
            assert (first != place).all() and (first != second).all()
    first, second = sample_references(3, 3, torch.device("cpu"))  # only one row to choose from
    assert first.tolist() == second.tolist() == [0, 1, 2]


def test_a_batch_of_one_has_no_diversity_of_references():
    losses = {
        k: v for update in small().updates(batch(rows=1), 0) for k, v in update.losses.items()
    }
    assert losses["diversity_reference"].item() == 0 != losses["diversity_latent"].item()


def test_the_diversity_weight_is_a_function_of_the_step():
    method = small(diversity_weight=2.0, diversity_steps=100)
    weights = [method.diversity_weight(step) for step in (0, 25, 50, 99, 100, 5000)]
    assert weights == pytest.approx([2.0, 1.5, 1.0, 0.02, 0.0, 0.0])
    losses = {}
    for step in (50, 0, 100):  # in any order: there is no counter
        torch.manual_seed(4)
        losses[step] = {
            k: v for update in method.updates(batch(), step) for k, v in update.losses.items()
        }
    for of in ("latent", "reference"):
        first, half = losses[0][f"diversity_{of}"].item(), losses[50][f"diversity_{of}"].item()
        assert first < 0 and half == pytest.approx(first / 2)
        assert f"diversity_{of}" not in losses[100]
    assert method.cuda_graph_key(99) != method.cuda_graph_key(100)


def test_a_captured_step_reads_the_diversity_weight_from_a_tensor():
    method = small(diversity_weight=2.0, diversity_steps=100)
    method.prepare_cuda_graph_inputs(2, 0)
    weight = method.diversity_weight_input(0)
    method.prepare_cuda_graph_inputs(2, 75)
    assert isinstance(weight, torch.Tensor) and weight is method.diversity_weight_input(75)
    assert weight.item() == 0.5


def test_the_second_fake_of_the_diversity_term_is_detached():
    method = small(adversarial_weight=1.0, style_weight=0.0, cycle_weight=0.0, diversity_weight=1.0)
    x, style = batch()["a"], torch.randn(2, 64)
    other = torch.randn(2, 64, requires_grad=True)
    losses = method.generator_losses(method.gan_loss_latent, x, style, other, style, 0)
    losses["diversity_latent"].backward()
    assert other.grad is None
    gradients = [p.grad.clone() for p in method.generator.parameters() if p.grad is not None]
    # The same by hand: the gradient of -mean |G(x, s) - c| with a constant c.
    method.zero_grad()
    constant = method.generator(x, other).detach()
    (-(method.generator(x, style) - constant).abs().mean()).backward()
    expected = [p.grad for p in method.generator.parameters() if p.grad is not None]
    torch.testing.assert_close(gradients, expected)


def test_there_is_a_translator_for_every_ordered_pair_of_any_number_of_domains():
    method = small(dict.fromkeys("abc", 3))
    assert list(method.translators()) == [
        "a_to_b", "a_to_c", "b_to_a", "b_to_c", "c_to_a", "c_to_b",
    ]  # fmt: skip
    losses = [update.total() for update in method.updates(batch("abc"), 0)]
    assert torch.stack(losses).isfinite().all()
    image, latent = torch.rand(1, 3, 16, 16), torch.randn(1, 64)
    to_b, to_c = (method.translators()[name] for name in ("a_to_b", "a_to_c"))
    assert isinstance(to_b, DomainTranslator) and isinstance(to_c, DomainTranslator)
    # Only the style determines the target domain.
    assert to_b(image, latent).equal(to_c(image, latent))
    assert not to_b.sample_style(1).equal(to_c.sample_style(1))


def test_a_reference_of_the_training_size_is_not_resized():
    method = small()
    translator = method.translators()["a_to_b"]
    assert isinstance(translator, DomainTranslator)
    image = batch()["b"]
    assert translator.encode_style(image).equal(method.style_encoder(image, 1))
    flat = torch.full((1, 3, 40, 24), 0.3)  # also constant after resizing
    same = translator.encode_style(torch.full((1, 3, 16, 16), 0.3))
    torch.testing.assert_close(translator.encode_style(flat), same)


def test_only_the_output_of_a_translator_is_bounded():
    method = small()
    nn.init.constant_(method.generator.last[2].bias, 3.0)  # pyright: ignore
    translator = method.translators()["a_to_b"]
    image, style = torch.rand(1, 3, 16, 16), torch.zeros(1, 64)
    assert method.generator(image, style).max() > 1
    assert translator(image, style).abs().max() <= 1


@pytest.mark.parametrize(
    ("size", "reason"),
    [(32, "data.crop_size must be method.size=16, .*, got 32"), (8, "got 8")],
)
def test_an_invalid_crop_size_is_refused(size, reason):
    with pytest.raises(ValueError, match=reason):
        small().check_crop_size(size, size)
    small().check_crop_size(16, 16)


def test_a_generator_too_deep_for_the_size_is_refused():
    generator = replace(small().config.generator, layers=4)
    with pytest.raises(ValueError, match="lower method.generator.layers"):
        small(generator=generator).check_crop_size(16, 16)


@pytest.mark.parametrize(
    "changes",
    [{"size": 100}, {"size": 4}, {"style_weight": -1.0}, {"diversity_steps": 0},
     {"adversarial_weight": 0.0, "cycle_weight": 0.0}],
)  # fmt: skip
def test_invalid_options_are_named(changes):
    with pytest.raises(ValueError, match="method." + next(iter(changes))):
        small(**changes)


@pytest.mark.parametrize("channels", [{"a": 3}, {"a": 3, "b": 1}])
def test_unequal_channels_and_single_domains_are_refused(channels):
    with pytest.raises(ValueError, match="stargan_v2"):
        small(channels)


def test_the_presets_have_the_published_settings():
    options = train_options(["stargan_v2"])
    assert options is not None and isinstance(options.method, StarGANv2.Config)
    method = options.method
    assert (options.learning_rate, options.lr_multipliers) == (1e-4, {"mapping": 0.01})
    assert (options.adam_betas, options.weight_decay) == ([0, 0.99], 1e-4)
    assert (method.gan_mode, method.penalty, method.penalty_weight) == ("vanilla", "r1", 1)
    assert (method.style_weight, method.cycle_weight, method.diversity_weight) == (1, 1, 2)
    # 0.999 a step of 4 images: 0.5^(4 / h) = 0.999, h = 4 ln 0.5 / ln 0.999 = 2771.2
    assert options.ema_half_life == pytest.approx(4 * math.log(0.5) / math.log(0.999), rel=1e-3)
    faces = train_options(["stargan_v2_celebahq"])
    assert faces is not None and isinstance(faces.method, StarGANv2.Config)
    assert (faces.method.generator.high_pass, faces.method.diversity_weight) == (1, 1)
