"""MUNIT: facts of the authors' code, losses worked out by hand, and effects of styles."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from models.methods.munit import MUNIT, MUNITTranslator
from options.load import train_options
from tests.conftest import shrink


def small(channels: dict[str, int] | None = None, **changes) -> MUNIT:
    config = shrink("munit")
    assert isinstance(config, MUNIT.Config)
    return MUNIT(replace(config, **changes), channels or {"a": 3, "b": 3})


def grey(value: float = 0.5):
    return {domain: torch.full((2, 3, 16, 16), value) for domain in "ab"}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def losses_of(method: MUNIT, images=None) -> dict[str, float]:
    updates = method.updates(images or grey(), 0)
    return {name: loss.item() for update in updates for name, loss in update.losses.items()}


def translator_of(method: MUNIT, name: str = "a_to_b") -> MUNITTranslator:
    translator = method.translators()[name]
    assert isinstance(translator, MUNITTranslator)
    return translator


def noise(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1


def test_parameter_counts_are_the_published_ones():
    method = MUNIT(MUNIT.Config(), {"a": 3, "b": 3})
    for content, style, decoder in (
        (method.content_a, method.style_a, method.decoder_a),
        (method.content_b, method.style_b, method.decoder_b),
    ):
        assert count(content) + count(style) + count(decoder) == 15_026_187
    assert count(method.discriminator_a) == count(method.discriminator_b) == 8_271_171
    assert count(method.optimizer_groups()["generators"]) == 2 * 15_026_187


def test_losses_of_zero_networks_are_those_worked_out_by_hand():
    method = small(cycle_weight=10.0)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    method.sample_prior = lambda images: torch.full((2, 8), 0.7)
    # Three scales of score 0: D 3 * (1 + 0), G 3 * 1. Images 0 for 0.5: 10 * 0.5, also for the
    # cycle. Content codes are always 0. Styles are encoded as 0 and were sampled as 0.7.
    expected = {
        "discriminator_a": 3.0, "discriminator_b": 3.0, "adversarial_a": 3.0, "adversarial_b": 3.0,
        "reconstruction_a": 5.0, "reconstruction_b": 5.0, "content_a": 0.0, "content_b": 0.0,
        "style_a": 0.7, "style_b": 0.7, "cycle_a": 5.0, "cycle_b": 5.0,
    }  # fmt: skip
    assert losses_of(method) == pytest.approx(expected)


def test_terms_of_weight_0_are_left_out():
    assert not any("cycle" in name for name in losses_of(small()))
    losses = losses_of(small(content_weight=0, reconstruction_weight=0, adversarial_weight=0))
    assert losses.keys() == {"discriminator_a", "discriminator_b", "style_a", "style_b"}


def test_the_discriminators_are_updated_first():
    assert [update.groups for update in small().updates(grey(), 0)] == [
        ("discriminators",), ("generators",),
    ]  # fmt: skip


def test_each_update_samples_styles_of_its_own():
    method, styles = small(), []
    plain = method.sample_prior
    method.sample_prior = lambda images: styles.append(plain(images)) or styles[-1]
    losses_of(method)
    assert len(styles) == 4 and all(style.shape == (2, 8) for style in styles)
    assert len({tuple(style.flatten().tolist()) for style in styles}) == 4


def test_different_styles_give_different_images_of_one_content():
    translator = translator_of(small())
    image, styles = noise()[:1], translator.sample_style(4)
    fakes = translator(image.expand(4, -1, -1, -1), styles)
    for one in range(4):
        single = translator(image, styles[one : one + 1])
        assert torch.allclose(fakes[one], single[0], atol=1e-5)  # independent of the batch
        for other in range(one):
            assert (fakes[one] - fakes[other]).abs().mean() > 1e-3


def test_a_reference_s_style_reaches_the_norms_of_the_decoder():
    method = small()
    translator, received = translator_of(method), []
    method.decoder_b.trunk[0].register_forward_pre_hook(lambda _, x: received.append(x[1]))
    image = noise()[:1]
    styles = [translator.encode_style(reference[None]) for reference in noise(2)]
    fakes = [translator(image, style) for style in styles]
    assert not styles[0].equal(styles[1]) and not fakes[0].equal(fakes[1])
    for style, parameters in zip(styles, received, strict=True):
        assert torch.cat(list(parameters), dim=1).equal(method.decoder_b.mlp(style))
    assert not received[0][0].equal(received[1][0])


def test_styles_are_encoded_by_the_target_and_contents_by_the_source():
    method = small()
    translator = translator_of(method)
    assert translator.encode_style(noise()).equal(method.style_b(noise()))
    style = translator.sample_style(2, seed=5)
    expected = method.decoder_b(method.content_a(noise()), style)
    assert translator(noise(), style).equal(expected)


def test_styles_are_standard_normal_and_the_mean_style_is_near_zero():
    translator = translator_of(small())
    styles = translator.sample_style(10_000)
    # Three standard errors over 80,000 samples: 3 / sqrt(80,000) = 0.0106 of the mean.
    assert styles.mean().item() == pytest.approx(0, abs=0.0106)
    assert styles.std().item() == pytest.approx(1, abs=0.0075)
    assert translator.mean_style().abs().max() < 4 / 16  # four standard errors of a mean of 256


def test_an_image_without_a_style_is_always_rendered_in_the_mean_style():
    translator = translator_of(small())
    assert translator(noise()).equal(translator(noise(), translator.mean_style()))
    assert translator(noise()).equal(translator(noise()))


def test_a_translator_has_only_the_networks_that_it_needs():
    method = small()
    own = {id(p) for p in translator_of(method).parameters()}
    parts = (method.content_a, method.style_b, method.decoder_b)
    assert own == {id(p) for part in parts for p in part.parameters()}
    copied = copy.deepcopy(method.translators())
    assert copied["a_to_b"](noise()).equal(translator_of(method)(noise()))


def test_domains_may_have_different_channels():
    method = small({"grey": 1, "color": 3})
    batch = {"grey": torch.rand(1, 1, 16, 16), "color": torch.rand(1, 3, 16, 16)}
    assert losses_of(method, batch)
    translator = translator_of(method, "grey_to_color")
    style = translator.encode_style(batch["color"])
    assert translator(batch["grey"], style).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"style_weight": -1.0}, "method.style_weight must be 0 or more, got -1"),
        ({"style_weight": 0.0, "reconstruction_weight": 0.0}, "cannot both be 0"),
    ],
)
def test_invalid_options_are_named(changes, reason):
    with pytest.raises(ValueError, match=reason):
        small(**changes)
    with pytest.raises(ValueError, match="2 domains"):
        small({"a": 3})


def test_invalid_crop_sizes_are_refused():
    method = small()
    method.check_crop_size(16, 16)
    with pytest.raises(ValueError, match="at least 16, got 12"):
        method.check_crop_size(12, 12)


def test_the_preset_has_the_published_settings():
    options = train_options(["munit", "data.root=x"])
    assert options is not None and isinstance(options.method, MUNIT.Config)
    method = options.method
    assert (options.duration, options.learning_rate) == ("1000000 steps", 1e-4)
    assert (options.weight_decay, options.adam_betas, options.batch_size) == (1e-4, [0.5, 0.999], 1)
    assert (method.adversarial_weight, method.reconstruction_weight) == (1, 10)
    assert (method.content_weight, method.style_weight, method.cycle_weight) == (1, 1, 0)
    assert (method.generator.style_dim, method.generator.style_width) == (8, 256)
    assert (options.data.fit, options.data.load_size, options.data.crop_size) == (
        "short_side", 256, 256,
    )  # fmt: skip
