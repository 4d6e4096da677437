"""Options of one optimizer group: learning rate, update interval and clipped gradient norm."""

import contextlib
import copy
from dataclasses import replace

import pytest
import torch

from common.errors import UserError
from engine.runtime import Runtime, RuntimeConfig
from engine.schedule import make_schedule
from engine.train_config import TrainingConfig
from engine.train_step import TrainStep
from models import methods
from tests.conftest import raises_user_error, shrink


def train_step(method_config=None, **options) -> TrainStep:
    torch.manual_seed(0)
    method = methods.find("cyclegan")(method_config or shrink("cyclegan"), {"a": 3, "b": 3})
    config = TrainingConfig(duration="100 steps", batch_size=2, **options)
    runtime = Runtime(RuntimeConfig(device="cpu"))
    return TrainStep(method, config, make_schedule("100 steps", "100%", 2, 10), runtime)


def batch():
    generator = torch.Generator().manual_seed(1)
    return {d: torch.randint(0, 256, (2, 3, 16, 16), generator=generator).byte() for d in "ab"}


def largest_change(training: TrainStep, group: str) -> float:
    """Take a step; return the largest change of a weight of a group."""
    weights = [p for p in training.optimizer_groups[group].parameters() if p.ndim > 1]
    before = copy.deepcopy(weights)
    training.take_step(batch())
    return max(float((x - y).detach().abs().max()) for x, y in zip(weights, before, strict=True))


def test_a_group_has_its_own_learning_rate():
    # Adam's first step changes every weight by the rate, whatever the loss.
    for group, rate in (("discriminators", 4 * 2e-4), ("generators", 2e-4)):
        training = train_step(lr_multipliers={"discriminators": 4.0})
        assert largest_change(training, group) == pytest.approx(rate, rel=1e-3)


def test_a_group_may_be_updated_every_kth_step_only():
    slow = train_step(update_every={"generators": 3})
    changed = [largest_change(slow, "generators") > 0 for _ in range(6)]
    assert changed == [True, False, False, True, False, False]
    slow = train_step(update_every={"generators": 3})
    assert all(largest_change(slow, "discriminators") > 0 for _ in range(3))


def test_an_update_of_skipped_groups_is_still_logged():
    slow = train_step(update_every={"generators": 2})
    rows = [slow.take_step(batch()) for _ in range(2)]
    assert set(rows[0]) == set(rows[1])
    assert "generators" not in slow.grad_norms


def test_a_gradient_is_clipped_to_the_norm_of_its_group_and_logged_before_that():
    free, clipped = train_step(), train_step(clip_grad_norm={"generators": 0.01})
    for training in (free, clipped):
        training.take_step(batch())
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
    for training in (free, clipped):
        training.take_step(batch())
    for one, two in zip(free.method.parameters(), clipped.method.parameters(), strict=True):
        assert one.equal(two)


@pytest.mark.parametrize(
    ("group", "lazy", "every", "fits"),
    [
        ("discriminators", "penalty_every", 4, False), ("discriminators", "penalty_every", 3, True),
        ("generators", "identity_every", 2, False), ("generators", "penalty_every", 2, True),
    ],
)  # fmt: skip
def test_a_lazy_term_must_not_be_in_more_updates_of_its_group_than_it_is_scaled_for(
    group, lazy, every, fits
):
    # A term of every second step is twice as strong. A group that is updated every fourth step
    # would have it in each update, so over a run it would weigh twice as much as configured.
    config = replace(shrink("cyclegan"), penalty="r1", **{lazy: 2})
    refused = raises_user_error(option=f"update_every.{group}")
    with contextlib.nullcontext() if fits else refused:
        train_step(config, update_every={group: every})


def test_a_penalty_is_a_lazy_term_of_the_discriminators_only():
    config = replace(shrink("stargan_v2"), penalty_every=4)
    method = methods.find("stargan_v2")(config, {"a": 3, "b": 3})
    assert method.lazy_terms() == {"discriminator": ("penalty_every", 4)}
    assert methods.find("stargan_v2")(
        replace(config, penalty="none"), {"a": 3, "b": 3}
    ).lazy_terms() == {"discriminator": ("penalty_every", 1)}


@pytest.mark.parametrize("option", ["lr_multipliers", "update_every", "clip_grad_norm"])
def test_an_unknown_group_is_refused_with_those_of_the_method(option):
    with pytest.raises(UserError, match="generators, discriminators") as caught:
        train_step(**{option: {"critics": 1}})
    assert caught.value.option == f"{option}.critics"


def test_a_gradient_that_is_not_finite_is_detected_in_any_update_of_a_group():
    # StarGAN v2 updates its generator twice in a step; the second norm must not hide the first.
    torch.manual_seed(0)
    method = methods.find("stargan_v2")(shrink("stargan_v2"), {"a": 3, "b": 3})
    runtime = Runtime(RuntimeConfig(device="cpu"))
    config = TrainingConfig(duration="10 steps", batch_size=2)
    training = TrainStep(method, config, make_schedule("10 steps", "100%", 2, 10), runtime)
    real_updates = method.updates

    def updates(images, step):
        for number, update in enumerate(real_updates(images, step)):
            if number == 0:  # a finite loss whose gradient is not finite
                (group,) = update.groups
                parameter = next(method.optimizer_groups()[group].parameters())
                update.losses["broken"] = (parameter.sum() * 0).sqrt() * 0
            yield update

    method.updates = updates
    losses = training.take_step(batch())
    assert all(loss.isfinite() for loss in losses.values())
    assert any(norm.isnan() for norm in training.grad_norms.values())
