"""GcGAN: transformations worked out by hand, and the weights of the authors' code."""

from dataclasses import replace

import pytest
import torch

from models.methods.gcgan import GcGAN
from tests.conftest import shrink


def small(**changes) -> GcGAN:
    config = shrink("gcgan")
    assert isinstance(config, GcGAN.Config)
    return GcGAN(replace(config, **changes), {"a": 3, "b": 3})


def batch():
    generator = torch.Generator().manual_seed(1)
    return {d: torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1 for d in "ab"}


@pytest.mark.parametrize("geometry", ["rotation", "flip"])
def test_the_inverse_transform_undoes_the_transform(geometry):
    method, image = small(geometry=geometry), torch.rand(1, 3, 8, 12)
    assert not method.transform(image).equal(image)
    assert method.inverse_transform(method.transform(image)).equal(image)


def test_a_rotation_is_clockwise_and_a_flip_is_upside_down():
    # 1 2      3 1 clockwise, 3 4 upside down
    # 3 4      4 2            1 2
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert small(geometry="rotation").transform(image).tolist() == [[[[3, 1], [4, 2]]]]
    assert small(geometry="flip").transform(image).tolist() == [[[[3, 4], [1, 2]]]]


def test_the_losses_of_constant_networks_are_those_worked_out_by_hand():
    # All weights 0: G = 0, D = 0, images of 0.5. Adversarial 1 each; both fakes are 0, so geometry
    # is 0; identity 5 * 0.5 each: 1 + 1 + 2.5 + 2.5 = 7. Discriminators (1 + 0) / 2 each.
    method = small()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    half = {d: torch.full((1, 3, 16, 16), 0.5) for d in "ab"}
    updates = list(method.updates(half, 0))
    assert updates[0].total().item() == pytest.approx(7.0)
    assert updates[1].total().item() == pytest.approx(1.0)


def test_both_consistency_terms_have_weight_20_and_detach_the_other_translation():
    method = small(adversarial_weight=0.0, identity_weight=0.0)
    losses = next(method.updates(batch(), 0)).losses
    assert set(losses) == {"geometry_b", "geometry_turned"}
    images = batch()["a"]
    fake, fake_turned = method.generator_ab(images), method.generator_ab(method.transform(images))
    distance = (method.transform(fake) - fake_turned).abs().mean().item()
    assert [loss.item() for loss in losses.values()] == pytest.approx([20 * distance] * 2, rel=1e-5)


def test_the_transformed_images_have_a_discriminator_of_their_own():
    method = small()
    before = next(iter(list(method.updates(batch(), 0))[1].losses.values())).item()
    with torch.no_grad():
        for parameter in method.discriminator_turned.parameters():
            parameter.zero_()
    after = next(iter(list(method.updates(batch(), 0))[1].losses.values())).item()
    assert after == before  # the loss of discriminator_b does not depend on it


def test_without_geometry_it_is_a_plain_gan():
    # All weights 0: adversarial 1, identity 5 * 0.5; the only discriminator (1 + 0) / 2.
    method = small(geometry="none")
    assert not [name for name, _ in method.named_modules() if "turned" in name]
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    half = {d: torch.full((1, 3, 16, 16), 0.5) for d in "ab"}
    generator, discriminator = method.updates(half, 0)
    assert {name: loss.item() for name, loss in generator.losses.items()} == {
        "identity_b": 2.5, "adversarial_b": 1.0,
    }  # fmt: skip
    losses = {name: loss.item() for name, loss in discriminator.losses.items()}
    assert losses == {"discriminator_b": 0.5}


def test_a_plain_gan_has_the_same_losses_as_with_geometry():
    method, plain = small(), small(geometry="none")
    plain.load_state_dict(method.state_dict(), strict=False)
    whole, part = list(method.updates(batch(), 0)), list(plain.updates(batch(), 0))
    for update, same in zip(whole, part, strict=True):
        for name, loss in same.losses.items():
            assert loss.item() == pytest.approx(update.losses[name].item(), rel=1e-5)


def test_without_geometry_and_adversarial_loss_there_is_no_loss_left():
    with pytest.raises(ValueError, match=r"method\.adversarial_weight must be more than 0"):
        small(geometry="none", adversarial_weight=0.0)


def test_domains_of_different_channels_are_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"method\.identity_weight=0"):
        GcGAN(shrink("gcgan"), {"a": 3, "b": 1})


def test_a_generator_without_a_loss_is_refused():
    with pytest.raises(ValueError, match="cannot both be 0"):
        small(adversarial_weight=0.0, geometry_weight=0.0)
