"""AdaIN: its layer, its losses, and styles that are sampled, encoded and stored."""

from dataclasses import replace

import pytest
import torch

from models.losses.style import mean_and_std
from models.methods.adain import AdaIN, StyleBank, adain, style_vector
from models.networks.vgg import Vgg
from options.load import train_options
from tests.conftest import shrink


def build(**changes) -> AdaIN:
    config = shrink("adain")
    assert isinstance(config, AdaIN.Config)
    return AdaIN(replace(config, **changes), {"a": 3, "b": 3})


def batch():
    return {domain: torch.rand(2, 3, 16, 16) * 2 - 1 for domain in "ab"}


def test_features_take_the_mean_and_std_of_the_style():
    content, style = torch.randn(2, 3, 8, 8) * 4 + 1, torch.rand(2, 6) + 0.5
    mean, std = mean_and_std(adain(content, style))
    assert torch.allclose(mean.flatten(1), style[:, :3], atol=1e-5)
    assert torch.allclose(std.flatten(1), style[:, 3:], rtol=1e-3)  # up to eps = 1e-5


def test_features_with_their_own_style_are_unchanged():
    content = torch.randn(2, 3, 8, 8)
    assert torch.allclose(adain(content, style_vector(content)), content, atol=1e-5)


def test_a_decoder_that_returns_the_style_image_has_no_style_loss():
    method, images = build(style_weight=3.0), batch()
    images["b"].requires_grad_()
    method.decoder.forward = lambda _: images["b"]
    (update,) = method.updates(images, 0)
    assert update.groups == ("decoder",)
    assert update.losses["style"].item() == pytest.approx(0, abs=1e-9)
    assert update.losses["content"].item() > 0


def test_vgg19_has_styles_of_1024_dimensions_and_only_the_decoder_is_trained():
    full_size = Vgg.Config(weights="random")
    method = AdaIN(AdaIN.Config(vgg=full_size), {"a": 3, "b": 3})
    assert method.translators()["a_to_b"].style_dim == 1024
    assert {name.partition(".")[0] for name, _ in method.named_parameters()} == {"decoder"}
    assert {name.partition(".")[0] for name in method.state_dict()} == {"decoder", "bank"}


def test_a_reference_has_the_style_that_training_stored():
    method, images = build(), batch()
    for _ in method.updates(images, 0):
        pass
    translator = method.translators()["a_to_b"]
    with torch.no_grad():
        encoded = translator.encode_style(images["b"])  # pyright: ignore
        assert torch.allclose(encoded, method.bank.styles[:2])
        styled = [translator(images["a"], style[None]) for style in method.bank.styles[:2]]
    assert not torch.allclose(*styled)


def test_a_bank_samples_the_stored_styles_and_drops_the_oldest():
    bank = StyleBank(3, 1)
    bank.remember(torch.tensor([[10.0], [11.0]]))
    assert set(bank.sample(50, 0).flatten().tolist()) == {10, 11}
    bank.remember(torch.tensor([[12.0], [13.0]]))
    assert bank.styles.flatten().tolist() == [13, 11, 12] and bank.seen.item() == 4
    assert bank.sample(5, 1).equal(bank.sample(5, 1))
    other = StyleBank(3, 1)
    other.load_state_dict(bank.state_dict())
    assert other.sample(5, 1).equal(bank.sample(5, 1))


def test_the_preset_has_the_published_settings():
    options = train_options(["adain", "data.root=x"])
    assert options is not None and isinstance(options.method, AdaIN.Config)
    assert (options.duration, options.batch_size, options.learning_rate) == (
        "160000 steps",
        8,
        1e-4,
    )
    assert (options.data.load_size, options.data.crop_size) == (512, 256)


def test_invalid_options_are_named():
    with pytest.raises(ValueError, match="method.bank must be at least 1"):
        AdaIN.Config(bank=0)
    with pytest.raises(ValueError, match="data.domains names 3"):
        AdaIN(AdaIN.Config(), {"a": 3, "b": 3, "c": 3})
    with pytest.raises(ValueError, match="multiple of 8"):
        build().check_crop_size(36, 36)
