"""UVCGAN v2: losses worked out by hand, feature queues of the discriminators, pre-training."""

from dataclasses import replace

import pytest
import torch

import train
from engine.checkpoint import Checkpoints
from models.gan_loss import GANLoss, GANLossConfig
from models.methods.inpainting import Inpainting
from models.methods.uvcgan_v2 import UVCGANv2, downscaled
from models.networks.discriminators.batch_head_discriminator import BatchHeadDiscriminator
from tests.conftest import TINY, call, shrink
from training.init_from import load_initial_weights

CHANNELS = {"a": 3, "b": 3}
SMALL = [
    "method.generator.levels=2",
    "method.generator.embed_dim=8",
    "method.generator.num_heads=2",
]


def build(**changes) -> UVCGANv2:
    return UVCGANv2(replace(shrink("uvcgan_v2"), **changes), CHANNELS)


def step_losses(method, batch, step=0):
    """Return the losses of one step without updating any weights."""
    return {name: x for update in method.updates(batch, step) for name, x in update.losses.items()}


def batch(count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {d: torch.rand(count, 3, 16, 16, generator=generator) * 2 - 1 for d in "ab"}


def with_constant_networks(discriminator_bias: float, **changes) -> UVCGANv2:
    """Last layers of zeros: generators return 0, discriminators return their last bias."""
    method = build(**changes)
    with torch.no_grad():
        discriminators = (method.discriminator_a.head[-1], method.discriminator_b.head[-1])
        for last in (method.generator_ba.exit, method.generator_ab.exit, *discriminators):
            for parameter in last.parameters():
                parameter.zero_()
        for last in discriminators:
            last.bias.fill_(discriminator_bias)  # pyright: ignore
    return method


@pytest.mark.parametrize(
    ("bias", "generators", "discriminator"), [(0.0, 5.75, 0.5), (0.3, 4.73, 0.29)]
)
def test_the_losses_of_constant_networks_are_those_worked_out_by_hand(
    bias, generators, discriminator
):
    # G = 0 against images of 0.5: cycle 2.5 * 0.5 and identity 1.25 * 0.5, twice, and twice
    # (bias - 1)^2: 2 + 2.5 + 1.25 = 5.75, and 2 * 0.49 + 3.75 = 4.73.
    # D: ((bias - 1)^2 + bias^2) / 2, and the gradient is 0.
    half = {d: torch.full((1, 3, 16, 16), 0.5) for d in "ab"}
    updates = list(with_constant_networks(bias).updates(half, 0))
    assert updates[0].total().item() == pytest.approx(generators, abs=1e-5)
    losses = {name: x.item() for name, x in updates[1].losses.items()}
    for domain in "ab":
        assert losses[f"discriminator_{domain}"] == pytest.approx(discriminator, abs=1e-6)
        assert losses[f"penalty_{domain}"] == 0


def test_default_weights_are_those_of_the_paper_for_another_range():
    # The paper's CelebA-HQ and AFHQ: 5 times a distance in [0, 1] is 2.5 times it in [-1, 1];
    # 1 times a squared gradient for [0, 1] is 4 times it for [-1, 1].
    config = UVCGANv2.Config()
    assert (config.cycle_weight * 2, config.penalty_weight / 4) == (5.0, 1.0)
    assert (config.penalty, config.gan_mode, config.discriminator.queue) == (
        "zero_centered", "lsgan", 3)  # fmt: skip


@pytest.mark.parametrize(("scores", "expected"), [("sum", 0.48), ("mean", 0.48 / 256)])
def test_the_penalty_is_the_squared_gradient_of_the_sum_or_of_the_mean_score(scores, expected):
    # 16 scores, each 0.1 times the sum of its 3 values: 48 derivatives of 0.1 are 0.48 for their
    # sum; for the mean of 16 scores each derivative is a 16th of that, and its square a 256th.
    linear = torch.nn.Conv2d(3, 1, 1, bias=False)
    torch.nn.init.constant_(linear.weight, 0.1)
    config = GANLossConfig(penalty="zero_centered", penalty_weight=1.0, penalty_scores=scores)
    terms = GANLoss(config, "x").discriminator_losses(
        linear, torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), 0
    )
    assert terms["penalty_x"].item() == pytest.approx(expected, rel=1e-5)


def test_the_networks_of_the_paper_have_74_630_224_parameters():
    # Two generators of 32,192,231 and two discriminators of 5,122,881.
    method = UVCGANv2(UVCGANv2.Config(), CHANNELS)
    assert sum(p.numel() for p in method.parameters()) == 74_630_224


def test_swapping_the_domains_and_the_networks_swaps_the_losses():
    method, images = build(consistency_weight=0.5, penalty="none").eval(), batch()
    straight = step_losses(method, images)
    method.generator_ba, method.generator_ab = method.generator_ab, method.generator_ba
    method.discriminator_a, method.discriminator_b = method.discriminator_b, method.discriminator_a
    # Start again with empty queues.
    for discriminator in (method.discriminator_a, method.discriminator_b):
        for queue in (discriminator.past_real, discriminator.past_fake):
            queue.set_extra_state({"features": None})
    swapped = step_losses(method, {"a": images["b"], "b": images["a"]})
    other = {"a": "b", "b": "a"}
    for name, loss in straight.items():
        assert swapped[name[:-1] + other[name[-1]]].item() == pytest.approx(loss.item(), rel=1e-5)


def test_only_the_discriminator_update_adds_to_the_queues():
    method = build()
    discriminators = (method.discriminator_a, method.discriminator_b)
    queues = [queue for d in discriminators for queue in (d.past_real, d.past_fake)]
    for step in range(5):
        updates = method.updates(batch(), step)
        next(updates)
        assert [queue.count for queue in queues] == [min(step, 3)] * 4
        next(updates)
        assert [queue.count for queue in queues] == [min(step + 1, 3)] * 4
    images = batch(seed=9)
    expected = {}
    with torch.no_grad():
        expected["b"] = method.discriminator_b.eval().patches.body((images["b"] + 1) / 2)
    step_losses(method, images)
    newest = method.discriminator_b.past_real.features
    assert newest is not None and newest[-1:].allclose(expected["b"], atol=1e-5)


def test_the_penalty_uses_the_same_past_features_as_the_scores():
    method, calls = build(), []
    discriminator = method.discriminator_a
    past_features = discriminator.past_features

    def recording(features, real):
        calls.append((real, discriminator.past_real.count, discriminator.past_fake.count))
        return past_features(features, real)

    discriminator.past_features = recording
    step_losses(method, batch())
    step_losses(method, batch())
    kinds = ["fake" if r == 0.0 else "real" if r == 1.0 else "mixed" for r, *_ in calls]
    assert kinds == ["fake", "mixed", "real", "fake"] * 2
    assert [counts for _, *counts in calls[4:]] == [[1, 1], [1, 1], [1, 1], [2, 1]]


def test_a_step_with_prepared_cuda_graph_inputs_is_the_same_step():
    prepared, plain = build(), build()
    plain.load_state_dict(prepared.state_dict())
    for step in range(5):
        images = batch(2, seed=step)
        prepared.prepare_cuda_graph_inputs(2, step)
        assert prepared.cuda_graph_key(step) == (min(2 * step, 3), (True, True))
        totals = []
        for method in (prepared, plain):
            torch.manual_seed(step)
            totals.append([update.total().item() for update in method.updates(images, step)])
        assert totals[0] == totals[1]


def test_every_term_can_be_disabled_and_the_consistency_enabled():
    images = batch()
    names = {"adversarial", "cycle", "identity", "discriminator", "penalty"}

    def terms(**changes):
        return {name[:-2] for name in step_losses(build(**changes), images)}

    assert terms() == names
    assert terms(cycle_weight=0) == names - {"cycle", "identity"}
    assert terms(penalty_weight=0.0) == names - {"penalty"}
    assert terms(consistency_weight=0.2) == names | {"consistency"}


def test_the_consistency_compares_low_resolutions_as_a_fraction_of_the_cycle():
    # G = 0 against images of 0.5, which are 0.5 at any size: 2.5 * 0.4 * 0.5 = 0.5.
    half = {d: torch.full((1, 3, 16, 16), 0.5) for d in "ab"}
    method = with_constant_networks(0.0, consistency_weight=0.4, consistency_size=4)
    assert step_losses(method, half)["consistency_a"].item() == pytest.approx(0.5, abs=1e-6)


def test_downscaling_averages_and_never_enlarges():
    board = torch.ones(16, 16)
    board[::2, 1::2] = board[1::2, ::2] = -1  # details that disappear at low resolution
    assert downscaled(board[None, None], 4).abs().max() < 0.1
    assert downscaled(board[None, None], 64).equal(board[None, None])
    assert downscaled(torch.zeros(1, 3, 32, 16), 8).shape == (1, 3, 8, 4)


@pytest.mark.parametrize(
    ("size", "reason"), [(30, "multiple of 4"), (2, "multiple of 4"), (16, "too small")]
)
def test_an_invalid_crop_size_is_refused_with_the_reason(size, reason):
    discriminator = BatchHeadDiscriminator.Config(channels=4, layers=3)
    with pytest.raises(ValueError, match=reason):
        build(discriminator=discriminator).check_crop_size(size, size)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"cycle_weight": -1.0}, "cycle_weight must be 0 or more, got -1"),
     ({"consistency_size": 0}, "consistency_size must be at least 1, got 0"),
     ({"cycle_weight": 0.0, "adversarial_weight": 0.0}, "cannot both be 0")],
)  # fmt: skip
def test_invalid_options_are_named(changes, reason):
    with pytest.raises(ValueError, match=reason):
        UVCGANv2.Config(**changes)
    with pytest.raises(ValueError, match="set method.identity_weight=0"):
        UVCGANv2(shrink("uvcgan_v2"), {"a": 1, "b": 3})


@pytest.fixture(scope="module")
def pretrained(photos, tmp_path_factory):
    """A run of four steps of inpainting."""
    run = tmp_path_factory.mktemp("runs") / "inpainting"
    code, error = call(
        train, "inpainting", f"data.root={photos}", f"run={run}", "duration=4 steps",
        "batch_size=2", "method.mask_patch_size=4", *small_words("inpainting"),
    )  # fmt: skip
    assert code == 0, error
    return run


def small_words(name: str) -> list[str]:
    words = [
        word for word in [*TINY, *SMALL] if "discriminator" not in word or name != "inpainting"
    ]
    return [*words, "ema_half_life=2"]


def test_both_generators_are_initialized_with_the_inpainting_weights(pretrained):
    method = build()
    rows = load_initial_weights(method, pretrained, strict=True)
    assert [(row.network, row.loaded > 0) for row in rows] == [
        ("generator_ab", True), ("generator_ba", True),
        ("discriminator_a", False), ("discriminator_b", False),
    ]  # fmt: skip
    ema = Checkpoints(pretrained / "checkpoints").load_latest()["ema"]
    for name, value in method.generator_ab.named_parameters():
        assert torch.equal(value, ema[f"a_to_a.generator.{name}"])
        assert torch.equal(value, method.generator_ba.get_parameter(name))
    assert isinstance(
        Inpainting(shrink("inpainting"), CHANNELS).generator_ba, type(method.generator_ba)
    )


def test_a_run_goes_from_inpainting_to_translation(photos, pretrained, tmp_path, capsys):
    words = ["uvcgan_v2", f"data.root={photos}", f"run={tmp_path / 'run'}", "duration=3 steps",
             f"init_from={pretrained}", "init_strict=false", *small_words("uvcgan_v2")]  # fmt: skip
    assert call(train, *words) == (0, "")
    shown = capsys.readouterr().out
    assert "generator_ab" in shown and "discriminator_a" in shown and "not there: fresh" in shown
    state = Checkpoints(tmp_path / "run/checkpoints").load_latest()
    assert state["step"] == 3
    assert state["method"]["discriminator_a.past_real._extra_state"]["features"].shape[0] == 3
