"""UNIT: facts of the authors' code, and losses worked out by hand."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from models.losses.divergence import unit_gaussian_kl
from models.methods.unit import UNIT
from models.networks.generators.content_and_style import AutoencoderConfig
from options.load import train_options
from tests.conftest import shrink


def small(channels: dict[str, int] | None = None, **changes) -> UNIT:
    config = shrink("unit")
    assert isinstance(config, UNIT.Config)
    return UNIT(replace(config, **changes), channels or {"a": 3, "b": 3})


def grey(value: float = 0.5):
    return {domain: torch.full((2, 3, 16, 16), value) for domain in "ab"}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def losses_of(method: UNIT, images=None) -> dict[str, float]:
    updates = method.updates(images or grey(), 0)
    return {name: loss.item() for update in updates for name, loss in update.losses.items()}


def zeroed(method: UNIT) -> UNIT:
    """Return the method with all weights 0: codes are noise, images and scores are 0."""
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    return method


def test_parameter_counts_are_the_published_ones():
    method = UNIT(UNIT.Config(), {"a": 3, "b": 3})
    for one, other in ((method.encoder_a, method.decoder_b), (method.encoder_b, method.decoder_a)):
        assert (count(one), count(other)) == (5_385_856, 5_754_627)
    assert count(method.discriminator_a) == count(method.discriminator_b) == 8_271_171
    assert count(method.optimizer_groups()["generators"]) == 2 * 11_140_483


def test_losses_of_zero_networks_are_those_worked_out_by_hand():
    # Three scales of score 0: D 3 * (1 + 0), G 3 * 1. Images 0 for 0.5: 10 * 0.5. Codes 0: no KL.
    expected = {
        "discriminator_a": 3.0, "discriminator_b": 3.0, "adversarial_a": 3.0, "adversarial_b": 3.0,
        "reconstruction_a": 5.0, "reconstruction_b": 5.0, "cycle_a": 5.0, "cycle_b": 5.0,
        "kl_a": 0.0, "kl_b": 0.0, "cycle_kl_a": 0.0, "cycle_kl_b": 0.0,
    }  # fmt: skip
    assert losses_of(zeroed(small())) == pytest.approx(expected)


def test_the_divergence_of_a_code_of_one_half_is_a_quarter():
    assert unit_gaussian_kl(torch.full((2, 3, 4, 4), 0.5)).item() == 0.25
    method = zeroed(small())
    for encoder in (method.encoder_a, method.encoder_b):
        encoder.forward = lambda image: torch.full((2, 16, 4, 4), 0.5) + 0 * image.mean()
    losses = losses_of(method)
    for name in ("kl_a", "kl_b", "cycle_kl_a", "cycle_kl_b"):
        assert losses[name] == pytest.approx(0.0025)


def test_the_discriminators_are_updated_first():
    assert [update.groups for update in small().updates(grey(), 0)] == [
        ("discriminators",), ("generators",),
    ]  # fmt: skip


def test_a_translation_is_decoded_by_the_target_domain():
    method = zeroed(small())
    with torch.no_grad():
        method.decoder_b.up[-2].bias.fill_(0.3)  # pyright: ignore
        method.decoder_b.up[-2].bias.atanh_()  # pyright: ignore
    # Decoder b returns 0.3 for any code: 0.2 from reals of b, and the losses of a do not change.
    losses = losses_of(method)
    assert losses["reconstruction_b"] == losses["cycle_b"] == pytest.approx(2.0)
    assert losses["reconstruction_a"] == losses["cycle_a"] == pytest.approx(5.0)
    translators = method.translators()
    assert translators["a_to_b"](grey()["a"]).mean().item() == pytest.approx(0.3)
    assert translators["b_to_a"](grey()["b"]).mean().item() == 0.0


def test_codes_are_noisy_in_training_and_means_in_translation():
    method, images = small(), {d: torch.rand(2, 3, 16, 16) * 2 - 1 for d in "ab"}
    totals = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        totals.append(losses_of(method, images)["reconstruction_a"])
    assert totals[0] == totals[1] != totals[2]
    translator = method.translators()["a_to_b"]
    mean = method.decoder_b(method.encoder_a(images["a"]))
    assert translator(images["a"]).equal(mean) and translator.style_dim == 0


def test_a_loss_of_weight_0_is_left_out():
    only = small(cycle_weight=0, kl_weight=0, adversarial_weight=0)
    assert losses_of(only).keys() == {
        "discriminator_a", "discriminator_b", "reconstruction_a", "reconstruction_b",
    }  # fmt: skip


def test_shared_blocks_are_the_last_of_the_encoders_and_the_first_of_the_decoders():
    sizes = AutoencoderConfig(channels=4, blocks=3)
    method = small(generator=sizes, shared_blocks=2)
    plain = small(generator=sizes)
    encoders = zip(method.encoder_a.trunk, method.encoder_b.trunk, strict=True)
    decoders = zip(method.decoder_a.trunk, method.decoder_b.trunk, strict=True)
    assert [one is other for one, other in encoders] == [False, True, True]
    assert [one is other for one, other in decoders] == [True, True, False]
    block = count(method.encoder_a.trunk[0])
    assert count(plain) - count(method) == 4 * block
    parameters = [p for group in method.optimizer_groups().values() for p in group.parameters()]
    assert len(parameters) == len({id(p) for p in parameters})
    assert {id(p) for p in parameters} == {id(p) for p in method.parameters()}


def test_shared_blocks_stay_shared_in_a_copy_and_through_a_state_dict():
    method = small(shared_blocks=1)
    copied = copy.deepcopy(method.translators())
    encoders = (copied[name].generator[0] for name in ("a_to_b", "b_to_a"))  # pyright: ignore
    one, other = (encoder.trunk[-1] for encoder in encoders)
    assert one is other
    again = small(shared_blocks=1)
    again.load_state_dict(method.state_dict())
    assert again.encoder_a.trunk[-1] is again.encoder_b.trunk[-1]
    pairs = zip(again.parameters(), method.parameters(), strict=True)
    assert all(mine.equal(theirs) for mine, theirs in pairs)


def test_domains_may_have_different_channels():
    method = small({"grey": 1, "color": 3})
    batch = {"grey": torch.rand(1, 1, 16, 16), "color": torch.rand(1, 3, 16, 16)}
    assert losses_of(method, batch)
    assert method.translators()["grey_to_color"](batch["grey"]).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kl_weight": -1.0}, "method.kl_weight must be 0 or more, got -1"),
        (
            {"shared_blocks": 2},
            "method.shared_blocks must be 0 to method.generator.blocks=1, got 2",
        ),
        ({"adversarial_weight": 0.0, "reconstruction_weight": 0.0}, "cannot both be 0"),
        ({"discriminator_weight": 0.0}, "method.discriminator_weight must be more than 0"),
    ],
)
def test_invalid_options_are_named(changes, reason):
    with pytest.raises(ValueError, match=reason):
        small(**changes)
    with pytest.raises(ValueError, match="2 domains"):
        small({"a": 3, "b": 3, "c": 3})


def test_invalid_crop_sizes_are_refused():
    method = UNIT(replace(UNIT.Config(), generator=AutoencoderConfig(channels=4)), {"a": 3, "b": 3})
    method.check_crop_size(64, 64)
    with pytest.raises(ValueError, match="4 layers and 3 scales"):
        method.check_crop_size(32, 32)
    with pytest.raises(ValueError, match="multiple of 4"):
        method.check_crop_size(66, 66)


def test_the_preset_has_the_published_settings():
    options = train_options(["unit", "data.root=x"])
    assert options is not None and isinstance(options.method, UNIT.Config)
    method = options.method
    assert (options.duration, options.learning_rate) == ("1000000 steps", 1e-4)
    assert (options.weight_decay, options.adam_betas, options.batch_size) == (1e-4, [0.5, 0.999], 1)
    assert (method.adversarial_weight, method.reconstruction_weight, method.kl_weight) == (
        1,
        10,
        0.01,
    )
    assert (method.cycle_weight, method.cycle_kl_weight, method.shared_blocks) == (10, 0.01, 0)
    assert (options.data.fit, options.data.load_size, options.data.crop_size) == (
        "short_side", 256, 256,
    )  # fmt: skip
