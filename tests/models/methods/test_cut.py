"""CUT: facts of the paper and of the authors' code, and losses worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from models.losses.contrastive import patch_nce
from models.methods.cut import CUT, flip_where
from models.methods.dclgan import DCLGAN
from models.networks.generators.generator_config import ContrastiveGeneratorConfig
from models.networks.layers.blur import BlurDown, blur_up
from models.networks.layers.norm_act_pad import NormedConv2d
from options.load import train_options
from tests.conftest import shrink


def small(**changes) -> CUT:
    config = shrink("cut")
    assert isinstance(config, CUT.Config)
    return CUT(replace(config, **changes), {"a": 3, "b": 3})


def batch(size: int = 32):
    torch.manual_seed(1)
    return {domain: torch.rand(2, 3, size, size) * 2 - 1 for domain in "ab"}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_are_the_published_ones():
    method = CUT(CUT.Config(), {"a": 3, "b": 3})
    assert (count(method.generator_ab), count(method.discriminator_b)) == (11_378_179, 2_764_737)
    assert count(method.sampler) == 560_384


def test_weights_are_initialized_as_in_the_authors_code():
    torch.manual_seed(0)
    method = CUT(CUT.Config(), {"a": 3, "b": 3})
    trunk = [p for n, p in method.generator_ab.named_parameters() if p.shape == (256, 256, 3, 3)]
    assert torch.stack([p.std() for p in trunk]).mean().item() == pytest.approx(4.17e-4, rel=5e-3)
    first = method.generator_ab.encoder[1]
    assert first.weight.std().item() == pytest.approx(4.94e-4, rel=0.03)  # pyright: ignore


def test_the_compared_features_are_those_of_the_code():
    method = CUT(CUT.Config(), {"a": 3, "b": 3})
    shapes = [tuple(x.shape) for x in method.generator_ab.features(torch.rand(1, 3, 64, 64))]
    assert shapes == [
        (1, 3, 70, 70),
        (1, 128, 64, 64),
        (1, 256, 32, 32),
        (1, 256, 16, 16),
        (1, 256, 16, 16),
    ]


def test_the_discriminator_is_updated_first_and_generator_and_sampler_together():
    assert [update.groups for update in small().updates(batch(), 0)] == [
        ("discriminator",), ("generator", "sampler"),
    ]  # fmt: skip


@pytest.mark.parametrize(("patches", "expected"), [(256, 5.545177), (64, 4.158883)])
def test_the_loss_of_equal_features_is_the_log_of_their_number(patches, expected):
    same = torch.ones(2, patches, 8) / math.sqrt(8)
    assert patch_nce(same, same, 0.07).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_orthonormal_features_is_nearly_zero():
    features = torch.eye(256)[None]
    assert patch_nce(features, features, 0.07).item() == pytest.approx(
        1.59330e-4, rel=2e-3
    )  # float32


def test_no_gradient_reaches_the_source_features():
    query, key = (torch.rand(1, 4, 3, requires_grad=True) for _ in range(2))
    patch_nce(query, key, 0.07).backward()
    assert query.grad is not None and key.grad is None


def test_the_blur_preserves_constants_and_is_the_binomial():
    assert torch.allclose(BlurDown()(torch.full((1, 2, 6, 6), 0.7)), torch.full((1, 2, 3, 3), 0.7))
    impulse = torch.zeros(1, 1, 8, 8)
    impulse[0, 0, 4, 4] = 1
    assert BlurDown()(impulse)[0, 0, 2, 2].item() == 0.25
    assert BlurDown()(impulse).sum().item() == 0.25  # 4 times denser, a quarter of the mass
    up = blur_up()(impulse)[0, 0]
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.allclose(up[7:11, 7:11], torch.outer(row, row)) and up.sum().item() == 4.0


def test_the_two_contrastive_losses_are_halved_as_in_the_code():
    images = batch()
    totals = {}
    for identity in (True, False):
        torch.manual_seed(0)
        method = small(nce_identity=identity)
        torch.manual_seed(2)
        _, update = method.updates(images, 0)
        totals[identity] = {name: loss.item() for name, loss in update.losses.items()}
    assert totals[True].keys() == {"adversarial_b", "nce_a", "nce_b"}
    assert totals[False].keys() == {"adversarial_b", "nce_a"}
    assert totals[True]["nce_a"] == pytest.approx(totals[False]["nce_a"] / 2, rel=1e-5)


def test_flip_equivariance_flips_the_input_and_the_features_back():
    x = torch.rand(1, 3, 4, 6)
    assert torch.equal(flip_where(x, torch.tensor([True])), x.flip(3))
    assert flip_where(x, torch.tensor([False])).equal(x) and flip_where(x, False) is x
    method = small(flip_equivariance=True, nce_identity=False)
    inputs = []
    method.generator_ab.register_forward_pre_hook(lambda _, images: inputs.append(images[0]))
    images = batch()
    for seed in range(8):
        torch.manual_seed(seed)
        next(method.updates(images, 0))
    flipped = [bool(x.equal(images["a"].flip(3))) for x in inputs]
    assert any(flipped) and not all(flipped)
    assert all(f or x.equal(images["a"]) for f, x in zip(flipped, inputs, strict=True))


def test_the_positions_are_shared_by_query_key_and_batch():
    method = small()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(
                100
            )  # initial features are so small that the norm's epsilon of 1e-7 matters
    features = method.generator_ab.features(batch()["a"])
    patch_ids = method.sampler.sample_patch_ids(features, 7)
    assert [len(p) for p in patch_ids] == [7] * len(features)
    assert all(len(set(p.tolist())) == 7 for p in patch_ids)
    sampled = method.sampler(features, patch_ids)
    assert all(x.shape == (2, 7, 256) for x in sampled)
    assert all(torch.allclose(x.norm(dim=2), torch.ones(2, 7), atol=1e-3) for x in sampled)


def test_the_presets_have_the_published_settings():
    cut, fast = (train_options([name, "data.root=x"]) for name in ("cut", "fastcut"))
    assert cut is not None and fast is not None
    assert isinstance(cut.method, CUT.Config) and isinstance(fast.method, CUT.Config)
    assert (cut.duration, cut.decay_after, cut.learning_rate) == ("400 epochs", "50%", 0.0002)
    assert (fast.duration, fast.decay_after) == ("200 epochs", "75%")
    assert (cut.method.nce_weight, cut.method.nce_identity) == (1.0, True)
    assert (fast.method.nce_weight, fast.method.nce_identity) == (10.0, False)
    assert fast.method.flip_equivariance and not cut.method.flip_equivariance


def test_domains_of_different_channels_are_refused():
    with pytest.raises(ValueError, match="must be equal"):
        CUT(CUT.Config(), {"a": 3, "b": 1})


def test_biases_before_a_norm_matter_where_features_are_taken_before_it():
    method = small().double()
    with torch.no_grad():
        for name, parameter in method.generator_ab.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    images = {domain: x.double() for domain, x in batch().items()}
    image = images["a"]
    with_gradient = method.generator_ab.features(image)
    with torch.no_grad():
        without_gradient = method.generator_ab.features(image)
    for one, other in zip(with_gradient, without_gradient, strict=True):
        assert torch.allclose(one, other, atol=1e-9)
    _, update = method.updates(images, 0)
    update.total().backward()
    down = [m for m in method.generator_ab.encoder if isinstance(m, NormedConv2d)]
    assert [m.bias.grad is not None for m in down] == [False, True, True]  # pyright: ignore


def test_a_generator_without_blocks_compares_the_downsampling_layers():
    config = replace(CUT.Config(), generator=replace(CUT.Config().generator, blocks=0, channels=4))
    method = CUT(config, {"a": 3, "b": 3})
    assert len(method.generator_ab.features(batch()["a"])) == len(method.sampler.layers) == 3


def test_a_generator_without_an_encoder_to_read_is_refused_with_the_reason():
    for config in (CUT.Config, DCLGAN.Config):
        for kind in ("unet", "norm_free_unet"):
            with pytest.raises(ValueError, match=r"features of the resnet's encoder"):
                config(generator=ContrastiveGeneratorConfig(kind=kind))
