"""DCLGAN: the embedding of each domain, and the weights of the authors' code."""

import math
from dataclasses import replace

import pytest
import torch

from models.methods.dclgan import DCLGAN
from tests.conftest import shrink


def small(**changes) -> DCLGAN:
    config = shrink("dclgan")
    assert isinstance(config, DCLGAN.Config)
    return DCLGAN(replace(config, **changes), {"a": 3, "b": 3})


def batch(size: int = 32):
    generator = torch.Generator().manual_seed(1)
    return {d: torch.rand(2, 3, size, size, generator=generator) * 2 - 1 for d in "ab"}


def test_four_layers_are_compared_and_never_the_image_itself():
    method = DCLGAN(DCLGAN.Config(), {"a": 3, "b": 3})
    first = [layer[0].in_features for layer in method.sampler_a.layers]  # pyright: ignore
    assert first == [128, 256, 256, 256]
    # Linear(C, 256), ReLU, Linear(256, 256) each: CUT's 560,384 without the image's 66,816.
    assert sum(p.numel() for p in method.sampler_a.parameters()) == 560_384 - 66_816


def test_the_discriminators_are_updated_first():
    assert [update.groups for update in small().updates(batch(), 0)] == [
        ("discriminators",), ("generators", "samplers"),
    ]  # fmt: skip


def test_the_losses_of_constant_networks_are_those_worked_out_by_hand():
    # All weights 0 and images of 0.5: G = 0, D = 0. Adversarial 0.5 * 1 each; identity 0.5 * 0.5
    # each; features all 0, so every patch is as likely as any of the 256 (or all of a small layer):
    # 0.5 * 2 * mean of ln over the layers 32^2, 16^2, 8^2, 8^2 -> 256, 256, 64, 64 patches, in each
    # direction.
    method = small()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    half = {d: torch.full((1, 3, 32, 32), 0.5) for d in "ab"}
    discriminators, generators = list(method.updates(half, 0))
    losses = {name: loss.item() for name, loss in generators.losses.items()}
    layers = [256, 256] + [64] * (len(method.sampler_a.layers) - 2)
    nce = sum(map(math.log, layers)) / len(layers)
    assert losses == pytest.approx({
        "adversarial_a": 0.5, "adversarial_b": 0.5, "nce_a": nce, "nce_b": nce,
        "identity_a": 0.25, "identity_b": 0.25,
    }, rel=1e-5)  # fmt: skip
    assert discriminators.total().item() == pytest.approx(1.0)


def test_each_domain_is_embedded_by_its_own_encoder_and_sampler():
    method = small()
    images = batch()

    def nce_losses():
        torch.manual_seed(0)
        losses = list(method.updates(images, 0))[1].losses
        return losses["nce_a"], losses["nce_b"]

    nce_a, nce_b = nce_losses()
    # With source a the keys come from sampler_a without a gradient, and the queries from sampler_b.
    for loss, trained, other in (
        (nce_a, method.sampler_b, method.sampler_a), (nce_b, method.sampler_a, method.sampler_b),
    ):  # fmt: skip
        gradients = torch.autograd.grad(
            loss,
            [*trained.parameters(), *other.parameters()],
            retain_graph=True,
            allow_unused=True,
        )
        count = len(list(trained.parameters()))
        assert all(g is not None for g in gradients[:count])
        assert all(g is None for g in gradients[count:])


def test_swapping_the_domains_and_the_networks_swaps_the_adversarial_and_identity_losses():
    method, images = small(), batch()
    straight = list(method.updates(images, 0))[1].losses
    method.generator_ba, method.generator_ab = method.generator_ab, method.generator_ba
    method.discriminator_a, method.discriminator_b = method.discriminator_b, method.discriminator_a
    swapped = list(method.updates({"a": images["b"], "b": images["a"]}, 0))[1].losses
    for name in ("adversarial", "identity"):
        assert swapped[f"{name}_a"].item() == straight[f"{name}_b"].item()
        assert swapped[f"{name}_b"].item() == straight[f"{name}_a"].item()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"nce_weight": -1.0}, "method.nce_weight"),
        ({"temperature": 0.0}, "method.temperature"),
        ({"identity_weight": -1.0}, "method.identity_weight"),
    ],
)
def test_invalid_options_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        small(**changes)
