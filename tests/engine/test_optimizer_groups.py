"""What each player can be told for itself: how fast, how often, and with how long a gradient it moves."""

import contextlib
import copy
from dataclasses import replace

import pytest
import torch

from common.errors import UserError
from engine.config import TrainingConfig
from engine.runtime import Runtime, RuntimeConfig
from engine.schedule import make_schedule
from engine.train_step import TrainStep
from models import methods
from tests.conftest import shrink


def train_step(method_config=None, **options) -> TrainStep:
    torch.manual_seed(0)
    method = methods.find("cyclegan")(method_config or shrink("cyclegan"), {"a": 3, "b": 3})
    config = TrainingConfig(duration="100 steps", batch_size=2, **options)
    runtime = Runtime(RuntimeConfig(device="cpu"))
    return TrainStep(method, config, make_schedule("100 steps", "100%", 2, 10), runtime)


def batch():
    generator = torch.Generator().manual_seed(1)
    return {d: torch.randint(0, 256, (2, 3, 16, 16), generator=generator).byte() for d in "ab"}


def moves(playing: TrainStep, group: str) -> float:
    """Take a step; return how far a player's weights moved at most."""
    weights = [p for p in playing.optimizer_groups[group].parameters() if p.ndim > 1]
    before = copy.deepcopy(weights)
    playing.take_step(batch())
    return max(float((x - y).detach().abs().max()) for x, y in zip(weights, before, strict=True))


def test_a_player_learns_at_its_own_rate():
    # Adam's first step moves every weight by the rate, whatever the loss.
    fast = train_step(lr_multipliers={"discriminators": 4.0})
    assert moves(fast, "discriminators") == pytest.approx(4 * 2e-4, rel=1e-3)
    assert moves(train_step(lr_multipliers={"discriminators": 4.0}), "generators") == pytest.approx(
        2e-4, rel=1e-3
    )


def test_a_player_may_move_every_kth_step_only():
    slow = train_step(update_every={"generators": 3})
    moved = [moves(slow, "generators") > 0 for _ in range(6)]
    assert moved == [True, False, False, True, False, False]
    slow = train_step(update_every={"generators": 3})
    assert all(moves(slow, "discriminators") > 0 for _ in range(3))


def test_a_turn_in_which_nobody_moves_is_still_logged():
    slow = train_step(update_every={"generators": 2})
    rows = [slow.take_step(batch()) for _ in range(2)]
    assert set(rows[0]) == set(rows[1])
    assert "generators" not in slow.grad_norms


def test_a_gradient_is_cut_to_its_players_norm_and_logged_as_it_was():
    free, clipped = train_step(), train_step(clip_grad_norm={"generators": 0.01})
    for playing in (free, clipped):
        playing.take_step(batch())
    assert clipped.grad_norms["generators"].item() == pytest.approx(
        free.grad_norms["generators"].item()
    )
    for group, limit in (("generators", 0.01), ("discriminators", None)):
        gradients = [
            p.grad for p in clipped.optimizer_groups[group].parameters() if p.grad is not None
        ]
        norm = torch.nn.utils.get_total_norm(gradients).item()
        assert norm == pytest.approx(limit or free.grad_norms[group].item(), rel=1e-4)


def test_a_gradient_shorter_than_the_limit_is_left_alone():
    free, clipped = train_step(), train_step(clip_grad_norm={"generators": 1e6})
    for playing in (free, clipped):
        playing.take_step(batch())
    for one, two in zip(free.method.parameters(), clipped.method.parameters(), strict=True):
        assert one.equal(two)


@pytest.mark.parametrize(
    ("group", "lazy", "every", "fits"),
    [
        ("discriminators", "penalty_every", 4, False), ("discriminators", "penalty_every", 3, True),
        ("generators", "identity_every", 2, False), ("generators", "penalty_every", 2, True),
    ],
)  # fmt: skip
def test_a_lazy_term_must_not_fall_on_the_steps_of_its_player_more_often_than_counted(
    group, lazy, every, fits
):
    # A term that is there every second step is twice as strong; of a player that moves every fourth,
    # at each move. So its sum over a run would be twice what was asked.
    config = replace(shrink("cyclegan"), penalty="r1", **{lazy: 2})
    with contextlib.nullcontext() if fits else pytest.raises(UserError, match="divisor 2"):
        train_step(config, update_every={group: every})


def test_a_penalty_asks_nothing_of_players_that_it_is_not_of():
    config = replace(shrink("stargan_v2"), penalty_every=4)
    method = methods.find("stargan_v2")(config, {"a": 3, "b": 3})
    assert method.lazy_terms() == {"discriminator": ("penalty_every", 4)}
    assert methods.find("stargan_v2")(
        replace(config, penalty="none"), {"a": 3, "b": 3}
    ).lazy_terms() == {"discriminator": ("penalty_every", 1)}


@pytest.mark.parametrize("option", ["lr_multipliers", "update_every", "clip_grad_norm"])
def test_a_player_that_the_method_does_not_have_is_answered_with_those_it_has(option):
    with pytest.raises(
        UserError, match=f"{option}.judges: the groups are generators, discriminators"
    ):
        train_step(**{option: {"judges": 1}})


def test_a_gradient_that_is_not_finite_is_seen_whichever_turn_of_a_player_it_is_in():
    # StarGAN v2's generator moves twice in a step; the second norm must not hide the first.
    torch.manual_seed(0)
    method = methods.find("stargan_v2")(shrink("stargan_v2"), {"a": 3, "b": 3})
    runtime = Runtime(RuntimeConfig(device="cpu"))
    config = TrainingConfig(duration="10 steps", batch_size=2)
    playing = TrainStep(method, config, make_schedule("10 steps", "100%", 2, 10), runtime)
    real_turns = method.updates

    def updates(images, step):
        for number, update in enumerate(real_turns(images, step)):
            if number == 0:  # a finite loss with a gradient that is none
                (group,) = update.groups
                parameter = next(method.optimizer_groups()[group].parameters())
                update.losses["broken"] = (parameter.sum() * 0).sqrt() * 0
            yield update

    method.updates = updates
    losses = playing.take_step(batch())
    assert all(loss.isfinite() for loss in losses.values())
    assert any(norm.isnan() for norm in playing.grad_norms.values())
