"""GcGAN: geometry worked out by hand, and the weights of the authors' code."""

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
def test_what_is_turned_can_be_turned_back(geometry):
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
    # All weights 0: G = 0, D = 0, images of 0.5. Adversarial 1 each; both fakes are 0, so geometry 0;
    # identity 5 * 0.5 each: 1 + 1 + 2.5 + 2.5 = 7. Discriminators (1 + 0) / 2 each.
    method = small()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    half = {d: torch.full((1, 3, 16, 16), 0.5) for d in "ab"}
    updates = list(method.updates(half, 0))
    assert updates[0].total().item() == pytest.approx(7.0)
    assert updates[1].total().item() == pytest.approx(1.0)


def test_consistency_is_weighted_20_both_ways_and_stops_at_the_other_translation():
    method = small(adversarial_weight=0.0, identity_weight=0.0)
    losses = next(method.updates(batch(), 0)).losses
    assert set(losses) == {"geometry_b", "geometry_turned"}
    images = batch()["a"]
    fake, turned = method.generator_ab(images), method.generator_ab(method.transform(images))
    distance = (method.transform(fake) - turned).abs().mean().item()
    assert [loss.item() for loss in losses.values()] == pytest.approx([20 * distance] * 2, rel=1e-5)


def test_the_turned_images_have_a_discriminator_of_their_own():
    method = small()
    before = next(iter(list(method.updates(batch(), 0))[1].losses.values())).item()
    with torch.no_grad():
        for parameter in method.discriminator_turned.parameters():
            parameter.zero_()
    after = next(iter(list(method.updates(batch(), 0))[1].losses.values())).item()
    assert after == before  # discriminator_b does not see discriminator_turned


def test_without_geometry_it_is_a_gan_alone():
    # All weights 0: adversarial 1, identity 5 * 0.5; the one discriminator (1 + 0) / 2.
    method = small(geometry="none")
    assert not [name for name, _ in method.named_modules() if "turned" in name]
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    half = {d: torch.full((1, 3, 16, 16), 0.5) for d in "ab"}
    made, judged = method.updates(half, 0)
    assert {name: loss.item() for name, loss in made.losses.items()} == {
        "identity_b": 2.5, "adversarial_b": 1.0,
    }  # fmt: skip
    assert {name: loss.item() for name, loss in judged.losses.items()} == {"discriminator_b": 0.5}


def test_a_gan_alone_has_the_losses_that_it_has_beside_the_turned_images():
    method, alone = small(), small(geometry="none")
    alone.load_state_dict(method.state_dict(), strict=False)
    whole, part = list(method.updates(batch(), 0)), list(alone.updates(batch(), 0))
    for update, same in zip(whole, part, strict=True):
        for name, loss in same.losses.items():
            assert loss.item() == pytest.approx(update.losses[name].item(), rel=1e-5)


def test_without_geometry_and_adversary_nothing_is_left():
    with pytest.raises(ValueError, match=r"method\.adversarial_weight must be more than 0"):
        small(geometry="none", adversarial_weight=0.0)


def test_domains_of_other_channels_are_answered_with_the_way_out():
    with pytest.raises(ValueError, match=r"method\.identity_weight=0"):
        GcGAN(shrink("gcgan"), {"a": 3, "b": 1})


def test_a_generator_with_nothing_to_learn_is_answered():
    with pytest.raises(ValueError, match="cannot both be 0"):
        small(adversarial_weight=0.0, geometry_weight=0.0)
