"""CycleGAN: losses worked out by hand, the order of updates, and its symmetries."""

from dataclasses import replace

import pytest
import torch

from engine.optimizer import adam
from models.methods.cyclegan import CycleGAN
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator
from tests.conftest import shrink

CHANNELS = {"a": 3, "b": 3}


def build(**changes) -> CycleGAN:
    return CycleGAN(replace(shrink("cyclegan"), **changes), CHANNELS)


def step_losses(method, batch):
    """Return the losses of one step without updating any weights."""
    return {
        name: loss for update in method.updates(batch, 0) for name, loss in update.losses.items()
    }


def batch(count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {d: torch.rand(count, 3, 16, 16, generator=generator) * 2 - 1 for d in "ab"}


def with_constant_networks(discriminator_bias: float) -> CycleGAN:
    """All weights 0: generators return 0, discriminators return their last bias."""
    method = build()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
        for discriminator in (method.discriminator_a, method.discriminator_b):
            discriminator.body[-1].bias.fill_(discriminator_bias)
    return method


@pytest.mark.parametrize(
    ("bias", "generators", "discriminator"), [(0.0, 17.0, 0.5), (0.3, 15.98, 0.29)]
)
def test_the_losses_of_constant_networks_are_those_worked_out_by_hand(
    bias, generators, discriminator
):
    # G = 0 against images of 0.5: cycle 10 * 0.5 and identity 5 * 0.5, twice, and twice
    # (bias - 1)^2: 2 + 10 + 5 = 17, and 2 * 0.49 + 15 = 15.98. D: ((bias - 1)^2 + bias^2) / 2 =
    # 0.5, 0.29.
    half = {d: torch.full((1, 3, 16, 16), 0.5) for d in "ab"}
    updates = list(with_constant_networks(bias).updates(half, 0))
    assert updates[0].total().item() == pytest.approx(generators, abs=1e-5)
    assert [x.item() for x in updates[1].losses.values()] == pytest.approx(
        [discriminator] * 2, abs=1e-6
    )


def test_the_networks_of_the_paper_have_28_285_832_parameters():
    method = CycleGAN(CycleGAN.Config(), CHANNELS)
    assert sum(p.numel() for p in method.parameters()) == 28_285_832


def test_swapping_the_domains_and_the_networks_swaps_the_losses_exactly():
    method, images = build(), batch()
    straight = step_losses(method, images)
    method.generator_ba, method.generator_ab = method.generator_ab, method.generator_ba
    method.discriminator_a, method.discriminator_b = method.discriminator_b, method.discriminator_a
    method.image_pool_a, method.image_pool_b = method.image_pool_b, method.image_pool_a
    swapped = step_losses(method, {"a": images["b"], "b": images["a"]})
    other = {"a": "b", "b": "a"}
    assert {name: swapped[name[:-1] + other[name[-1]]].item() for name in straight} == {
        name: loss.item() for name, loss in straight.items()
    }


def test_a_batch_of_two_is_the_mean_of_two_batches_of_one():
    method, two = build(), batch(2)
    both = step_losses(method, two)
    ones = [step_losses(method, {d: x[i : i + 1] for d, x in two.items()}) for i in (0, 1)]
    for name, loss in both.items():
        assert loss.item() == pytest.approx(
            (ones[0][name].item() + ones[1][name].item()) / 2, abs=1e-5
        )


def test_an_update_changes_its_group_and_leaves_the_others_without_a_gradient():
    method = build()
    groups = method.optimizer_groups()
    optimizers = {name: adam(group, 2e-4, (0.5, 0.999)) for name, group in groups.items()}
    for update in method.updates(batch(), 0):
        (updated,) = update.groups
        before = {n: [p.clone() for p in group.parameters()] for n, group in groups.items()}
        parameters = list(groups[updated].parameters())
        for parameter in method.parameters():
            parameter.grad = None
        update.total().backward(inputs=parameters)
        optimizers[updated].step()
        for name, group in groups.items():
            same = all(
                torch.equal(p, q) for p, q in zip(group.parameters(), before[name], strict=True)
            )
            assert same == (name != updated)
            assert name == updated or all(p.grad is None for p in group.parameters())


def test_the_discriminators_get_detached_fakes_from_before_the_generator_update():
    method = build()
    updates = method.updates(batch(), 0)
    next(updates)
    with torch.no_grad():
        for parameter in method.generator_ab.parameters():
            parameter.add_(0.1)
    images = []
    method.discriminator_b.register_forward_pre_hook(lambda _, inputs: images.append(inputs[0]))
    next(updates)
    _, fake = images
    assert not fake.requires_grad
    assert not torch.allclose(fake, method.generator_ab(batch()["a"]), atol=1e-4)


def test_every_term_of_the_generators_can_be_disabled():
    images = batch()
    assert set(step_losses(build(cycle_weight=0), images)) == {
        "adversarial_a", "adversarial_b", "discriminator_a", "discriminator_b"}  # fmt: skip
    assert "identity_a" not in step_losses(build(identity_weight=0), images)
    assert "adversarial_a" not in step_losses(build(adversarial_weight=0), images)


def test_a_weight_scales_its_term_and_identity_is_a_fraction_of_the_cycle():
    method, images = build(), batch()
    once = step_losses(method, images)
    method.config = replace(method.config, cycle_weight=20.0)
    twice = step_losses(method, images)
    for name in ("cycle_a", "cycle_b", "identity_a", "identity_b"):
        assert twice[name].item() == pytest.approx(2 * once[name].item(), rel=1e-6)
    assert twice["adversarial_a"].item() == once["adversarial_a"].item()


def test_domains_of_different_channels_need_the_identity_loss_off():
    with pytest.raises(ValueError, match="set method.identity_weight=0"):
        CycleGAN(shrink("cyclegan"), {"a": 1, "b": 3})
    method = CycleGAN(replace(shrink("cyclegan"), identity_weight=0.0), {"a": 1, "b": 4})
    images = {"a": torch.rand(2, 1, 16, 16), "b": torch.rand(2, 4, 16, 16)}
    assert all(torch.isfinite(loss) for loss in step_losses(method, images).values())
    assert method.translators()["a_to_b"](images["a"]).shape == (2, 4, 16, 16)


@pytest.mark.parametrize(
    ("size", "reason"), [(30, "multiple of 4"), (4, "multiple of 4"), (16, "too small")]
)
def test_an_invalid_crop_size_is_refused_with_the_reason(size, reason):
    config = replace(
        shrink("cyclegan"), discriminator=PatchDiscriminator.Config(channels=4, layers=3)
    )
    with pytest.raises(ValueError, match=reason):
        CycleGAN(config, CHANNELS).check_crop_size(size, size)


def test_the_first_adam_step_changes_every_weight_by_the_learning_rate():
    # Kingma & Ba: at t = 1 the bias-corrected step is lr * g / (|g| + eps) for any scale of losses.
    method = build(discriminator=PatchDiscriminator.Config(channels=4, layers=1))
    discriminator = method.discriminator_a
    before = discriminator.body[0].weight.clone()
    optimizer = adam(discriminator, 2e-4, (0.5, 0.999))
    (discriminator(batch()["a"]) * 1000).square().mean().backward()
    optimizer.step()
    assert (discriminator.body[0].weight - before).abs().detach() == pytest.approx(2e-4, abs=1e-8)


def test_resize_upsampling_and_dropout_are_optional():
    config = GeneratorConfig(channels=4, blocks=2, upsampling="resize", dropout=0.5)
    generator = ResnetGenerator(3, 3, config)
    kinds = {type(module).__name__ for module in generator.modules()}
    assert {"Upsample", "Dropout"} <= kinds and "ConvTranspose2d" not in kinds
    assert generator(torch.zeros(1, 3, 16, 24)).shape == (1, 3, 16, 24)


def test_a_lazy_identity_is_applied_every_n_steps_n_times_as_strong():
    plain, lazy, images = build(), build(identity_every=3), batch()
    lazy.load_state_dict(plain.state_dict())
    once = step_losses(plain, images)["identity_a"].item()
    for step in range(7):
        losses = {n: x for update in lazy.updates(images, step) for n, x in update.losses.items()}
        assert ("identity_a" in losses) == (step % 3 == 0)
        if step % 3 == 0:
            assert losses["identity_a"].item() == pytest.approx(3 * once, rel=1e-6)


def test_a_lazy_identity_is_applied_in_steps_that_update_slow_generators():
    # update_every.generators=2 updates them at steps 0, 2, 4 ...: these need the identity loss.
    method = build(identity_every=2)
    assert [method.has_identity_at(step) for step in range(4)] == [True, False, True, False]
