"""Failures of training are detected, and runs without failures are not warned."""

import json
import os
import signal

import pytest
import torch
from torch import nn

import train
from common.errors import RunError
from engine.checkpoint import Checkpoints
from engine.train_config import TrainingConfig
from engine.train_step import TrainStep
from models.method import Update
from models.methods.cyclegan import CycleGAN
from models.translator import DeterministicTranslator
from tests.conftest import TINY, call
from training.failure_modes import FAILURE_MODES
from training.failure_monitor import MIN_STEPS, NonFiniteError, TrainingMonitor, _Pending
from training.save_and_restore import RunCheckpoints

CPU = torch.device("cpu")
TERMS = ["adversarial_a", "adversarial_b", "cycle_a", "cycle_b", "identity_a", "identity_b",
         "discriminator_a", "discriminator_b"]  # fmt: skip


def words(photos, run, *more):
    return ["cyclegan", f"data.root={photos}", f"run={run}", "duration=12 steps", "log.every=1",
            "checkpoint_every=4", "log.previews_every=0", "method.pool_size=3", *TINY,
            *more]  # fmt: skip


def spoil(monkeypatch, term: str, step: int, value: float = float("nan"), times: int = 1) -> None:
    """Multiply a loss term by `value` in `times` steps, beginning with number `step` (from 1)."""
    real, left = CycleGAN.updates, [times]

    def updates(self, batch, done):
        spoilt = done + 1 >= step and left[0] > 0
        for update in real(self, batch, done):
            if spoilt and term in update.losses:
                update.losses[term] = update.losses[term] * value
                left[0] -= 1
            yield Update(*update.groups, losses=update.losses)

    monkeypatch.setattr(CycleGAN, "updates", updates)


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights_of(run):
    return Checkpoints(run / "checkpoints").load_latest()["method"]


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_moves_nobody(
    photos, tmp_path, monkeypatch, term, value
):
    run, seen = tmp_path / "run", []
    spoil(monkeypatch, term, 6, value)
    take = TrainStep.take_step

    def watched(self, batch):
        group = self.optimizer_groups["discriminators" if term.startswith("d") else "generators"]
        before = [p.detach().clone() for p in group.parameters()]
        losses = take(self, batch)
        same = all(torch.equal(p, q) for p, q in zip(group.parameters(), before, strict=True))
        seen.append(same)
        return losses

    monkeypatch.setattr(TrainStep, "take_step", watched)
    code, error = call(train, *words(photos, run, "log.every=100"))  # between two logged steps
    assert code == 3 and f"the loss {term} became" in error and "at step 6" in error
    assert seen == [False] * 5 + [True]
    assert Checkpoints(run / "checkpoints").load_latest()["step"] == 4


def test_a_gradient_that_is_not_finite_stops_the_run(photos, tmp_path, monkeypatch):
    class Explode(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
            return gradient * float("inf")

    real = CycleGAN.updates

    def updates(self, batch, step):
        for update in real(self, batch, step):
            if step == 5 and "discriminator_a" in update.losses:
                update.losses["discriminator_a"] = Explode.apply(update.losses["discriminator_a"])
            yield update

    monkeypatch.setattr(CycleGAN, "updates", updates)
    code, error = call(train, *words(photos, tmp_path / "run"))
    assert code == 3 and "a gradient of the discriminators became" in error and "step 6" in error


def test_skip_leaves_the_step_out_and_goes_on(photos, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    spoil(monkeypatch, "cycle_a", 6)
    assert call(train, *words(photos, run, "on_nonfinite=skip")) == (0, "")
    assert capsys.readouterr().out.count("the step is left out") == 1
    assert [row["step"] for row in rows_of(run)] == list(range(1, 13))
    assert "cycle_a" not in rows_of(run)[5] and "cycle_a" in rows_of(run)[6]
    assert all(x.isfinite().all() for x in weights_of(run).values() if torch.is_tensor(x))


def test_skip_gives_up_after_so_many_in_a_row(photos, tmp_path, monkeypatch):
    spoil(monkeypatch, "cycle_a", 6, times=4)
    more = ("on_nonfinite=skip", "nonfinite_limit=3")
    code, error = call(train, *words(photos, tmp_path / "run", *more))
    assert code == 3 and "at step 9 (4 steps in a row)" in error


def test_a_failed_step_leaves_nothing_in_the_history(photos, tmp_path, monkeypatch):
    run, real = tmp_path / "run", CycleGAN.updates

    def updates(self, batch, step):
        if step == 1:  # while the pools fill
            batch = {name: x * float("nan") for name, x in batch.items()}
        yield from real(self, batch, step)

    monkeypatch.setattr(CycleGAN, "updates", updates)
    assert call(train, *words(photos, run, "on_nonfinite=skip")) == (0, "")
    state = weights_of(run)
    pools = [state[name]["images"] for name in state if name.endswith("_extra_state")]
    assert len(pools) == 2 and all(len(x) == 3 and x.isfinite().all() for x in pools)


def test_rollback_goes_on_from_the_last_checkpoint_with_other_samples(
    photos, tmp_path, monkeypatch, capsys
):
    run, unharmed = tmp_path / "run", tmp_path / "unharmed"
    assert call(train, *words(photos, unharmed)) == (0, "")
    spoil(monkeypatch, "cycle_a", 6)
    assert call(train, *words(photos, run, "on_nonfinite=rollback")) == (0, "")
    assert "back at step 4, with another seed (1)" in capsys.readouterr().out
    rows, expected = rows_of(run), rows_of(unharmed)
    assert [row["step"] for row in rows] == list(range(1, 13))  # each step once
    assert [row["cycle_a"] for row in rows[:4]] == [row["cycle_a"] for row in expected[:4]]
    assert rows[4]["cycle_a"] != expected[4]["cycle_a"]
    assert Checkpoints(run / "checkpoints").load_latest()["rollbacks"] == 1


def test_rollback_before_the_first_checkpoint_begins_again_and_stops_in_the_end(
    photos, tmp_path, monkeypatch
):
    spoil(monkeypatch, "cycle_a", 2, times=3)
    more = ("on_nonfinite=rollback", "nonfinite_limit=2")
    code, error = call(train, *words(photos, tmp_path / "run", *more))
    assert code == 3 and "cycle_a became nan at step 2" in error


def test_a_run_that_went_back_resumes_bit_identically(photos, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for run, kill in ((whole, None), (parts, 10)):
        spoil(monkeypatch, "cycle_a", 6)
        save = RunCheckpoints.save

        def killed(self, score, kill=kill, save=save):
            path = save(self, score)
            if kill and self.train_step.step == 8:
                raise KeyboardInterrupt
            return path

        monkeypatch.setattr(RunCheckpoints, "save", killed)
        if kill:
            with pytest.raises(KeyboardInterrupt):
                call(train, *words(photos, run, "on_nonfinite=rollback"))
            monkeypatch.undo()
        assert call(train, *words(photos, run, "on_nonfinite=rollback")) == (0, "")
        monkeypatch.undo()
    one, two = weights_of(whole), weights_of(parts)
    assert all(torch.equal(one[name], two[name]) for name in one if torch.is_tensor(one[name]))


# Slow failures: each detector gets a run that fails in its way, and one that does not fail.


class Broken(nn.Module):
    """A generator that only applies `change` to its input."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, image):
        return self.change(image)


def run_with(photos, tmp_path, monkeypatch, capsys, change, size: int = 32) -> str:
    """Train a few steps with translators that apply `change` to an image; return the output."""
    translators = CycleGAN.translators

    def broken(self):
        result = translators(self)
        for translator in result.values():
            assert isinstance(translator, DeterministicTranslator)
            if change is not None:
                translator.generator = Broken(change)
        return result

    monkeypatch.setattr(CycleGAN, "translators", broken)
    more = [
        word for word in words(photos, tmp_path / "run") if not word.startswith("validation_images")
    ]
    more += [
        f"data.crop_size={size}",
        f"data.load_size={size}",
        "validation_images=3",
        "validate_every=4",
    ]
    assert call(train, *more) == (0, "")
    return capsys.readouterr().out


FAILURES = {
    "hardly changed": lambda x: x * 0.999,
    "all translations are one picture": lambda x: x * 0.01 + 0.3,
    "light and dark have changed places": lambda x: -x,
    "black or burnt out": lambda x: torch.where(torch.arange(x.shape[3]) < 16, -1.0, x * 0.7),
    "a grid lies over": lambda x: 0.6 * x + 0.3 * (torch.arange(x.shape[3]) % 4 == 0),
}


@pytest.mark.parametrize("title", FAILURES)
def test_a_run_with_the_failure_is_warned_once_at_the_second_look(
    photos, tmp_path, monkeypatch, capsys, title, record_property
):
    out = run_with(photos, tmp_path, monkeypatch, capsys, FAILURES[title])
    warned = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert len([line for line in warned if title in line]) == 2  # one for each direction
    assert all("step 8:" in line for line in warned)
    record_property("figure", f"{title}: step 8, validated every 4")
    others = [line for line in warned if title not in line]
    assert others == []


def test_a_sound_run_is_not_warned(photos, tmp_path, monkeypatch, capsys):
    def darker_and_bluer(x):
        return x * 0.6 + torch.tensor([-0.2, 0.1, 0.2]).view(3, 1, 1)

    assert "warning" not in run_with(photos, tmp_path, monkeypatch, capsys, darker_and_bluer)


def test_every_failure_mode_has_a_run_that_fails_in_its_way():
    assert len(FAILURES) == len(FAILURE_MODES)
    for failure_mode in FAILURE_MODES:
        assert any(title in failure_mode.title for title in FAILURES), failure_mode.title
        assert failure_mode.advice.startswith("try ") and "\n" not in failure_mode.advice


def warnings_of(losses, steps=MIN_STEPS + 50) -> list[tuple[str, str]]:
    monitor = TrainingMonitor(
        TrainingConfig(),
        CPU,
        discriminator_losses=[n for n in losses if n.startswith("discriminator")],
    )
    for step in range(1, steps + 1):
        monitor.push(step, {n: torch.tensor(v(step)) for n, v in losses.items()}, {})
    return monitor.warnings()


def test_a_discriminator_that_is_always_right_is_named_and_a_struggling_one_is_not():
    ((title, advice),) = warnings_of(
        {"discriminator_a": lambda _: 0.004, "adversarial_a": lambda _: 0.0}
    )
    assert f"discriminator_a has been near 0 up to step {MIN_STEPS}" in title and "layers" in advice
    assert warnings_of({"discriminator_a": lambda step: 0.25 + 0.1 * (step % 2)}) == []
    assert warnings_of({"discriminator_a": lambda step: 0.001 if step % 5 else 0.5}) == []
    assert warnings_of({"discriminator_a": lambda _: -3.0}) == []  # wgan's is not bounded
    assert warnings_of({"discriminator_a": lambda _: 0.004}, steps=MIN_STEPS - 1) == []


def test_a_symptom_that_passes_is_not_worth_a_line():
    monitor, image = TrainingMonitor(TrainingConfig(), CPU), torch.rand(1, 3, 32, 32)
    for step, fake in enumerate((image, image * 0.5, image, image * 0.5)):
        monitor.check_images(step, {"a_to_b": [[image, fake]]}, {"a_to_b": [image]})
    assert monitor.warnings() == []


def test_a_failed_step_raises_with_the_loss_and_the_step():
    monitor = TrainingMonitor(TrainingConfig(), CPU)
    with pytest.raises(NonFiniteError, match="cycle_a became inf at step 3"):
        monitor.push(3, {"cycle_a": torch.tensor(float("inf"))}, {})


def test_a_full_disk_stops_the_run_or_is_warned_of_as_asked(photos, tmp_path, monkeypatch, capsys):
    real = Checkpoints.save

    def full(self, state, step, score=None):
        if step == 8:
            raise RunError("step_00000008.pt: could not be written, disk full")
        return real(self, state, step, score)

    monkeypatch.setattr(Checkpoints, "save", full)
    code, error = call(train, *words(photos, tmp_path / "one"))
    assert code == 1 and "disk full" in error
    assert Checkpoints(tmp_path / "one/checkpoints").load_latest()["step"] == 4
    assert call(train, *words(photos, tmp_path / "two", "on_save_error=warn")) == (0, "")
    assert "training goes on without this checkpoint" in capsys.readouterr().out
    assert Checkpoints(tmp_path / "two/checkpoints").load_latest()["step"] == 12


def test_a_skipped_step_does_not_change_running_statistics(photos, tmp_path, monkeypatch):
    run = tmp_path / "run"
    updates = CycleGAN.updates

    def spoilt(self, batch, step):
        if step == 6:
            batch = {name: x * float("nan") for name, x in batch.items()}
        yield from updates(self, batch, step)

    monkeypatch.setattr(CycleGAN, "updates", spoilt)
    more = ("on_nonfinite=skip", "method.generator.norm=batch", "ema_half_life=4")
    assert call(train, *words(photos, run, *more)) == (0, "")
    monkeypatch.undo()
    state = Checkpoints(run / "checkpoints").load_latest()
    for part in (state["method"], state["ema"]):
        assert all(x.isfinite().all() for x in part.values() if torch.is_tensor(x))
    assert "generator_ab.encoder.2.batch_norm.running_mean" in state["method"]
    assert call(train, *words(photos, run, *more)) == (0, "")  # it can be opened


def test_a_score_that_is_not_finite_is_never_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step, score in ((1, float("nan")), (2, 0.1), (3, 0.5), (4, float("inf")), (5, None)):
        assert checkpoints.is_best(score) == (step == 2)
        checkpoints.save({"step": step}, step, score)
    assert checkpoints.load_best()["step"] == 2


def test_a_signal_just_before_a_rollback_is_not_lost(photos, tmp_path, monkeypatch):
    spoil(monkeypatch, "cycle_a", 6)
    push = TrainingMonitor.push

    def signalled(self, step, losses, norms):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        push(self, step, losses, norms)

    monkeypatch.setattr(TrainingMonitor, "push", signalled)
    run = tmp_path / "run"
    assert call(train, *words(photos, run, "on_nonfinite=rollback"))[0] == 143
    checkpoints = Checkpoints(run / "checkpoints")
    assert checkpoints.load_latest()["step"] == 4
    assert checkpoints.load_best()["step"] == 4  # saved again at its step, it keeps its score


class Late:
    """A CUDA event of a device that is far behind."""

    def __init__(self):
        self.done = False

    def query(self):
        return self.done

    def synchronize(self):
        self.done = True


def test_steps_that_are_pending_at_a_rollback_are_not_checked():
    monitor = TrainingMonitor(TrainingConfig(), CPU)
    for step in range(3):
        values = torch.tensor([float("nan")])
        monitor._pending.append(_Pending(step, ["cycle_a"], values, Late()))  # pyright: ignore
    with pytest.raises(NonFiniteError):
        monitor.drain()
    monitor.reset()
    monitor.drain()
    assert monitor.consecutive_skips == 0


def test_a_translator_into_its_own_domain_may_return_its_input():
    images = [torch.rand(1, 3, 16, 16) * 2 - 1 for _ in range(3)]
    rows, titles = [[x, x] for x in images], {}
    for direction in ("a_to_b", "a_to_a"):
        monitor = TrainingMonitor(TrainingConfig(), CPU)
        for step in (1, 2):
            monitor.check_images(step, {direction: rows}, {direction: images})
        titles[direction] = [title for title, _ in monitor.warnings()]
    assert len(titles["a_to_b"]) == 1 and "hardly changed" in titles["a_to_b"][0]
    assert titles["a_to_a"] == []
