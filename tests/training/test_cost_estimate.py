"""The plan of a run: measured steps, the sizes that fit, and a schedule that ends in time."""

import json
import re
import subprocess
import sys

import pytest

import train
from common.errors import UserError
from engine.schedule import fit_to_budget, make_schedule, parse_budget
from options.load import train_options
from tests.conftest import ROOT, TINY, call, raises_user_error
from training import cost_estimate as planning
from training.cost_estimate import (
    StepCost,
    apply_budget,
    measure,
    measure_in_subprocess,
    plan_lines,
)


@pytest.fixture
def options(photos):
    result = train_options(["cyclegan", f"data.root={photos}", *TINY, "duration=100 steps"])
    assert result is not None
    return result


def test_real_steps_of_the_run_are_measured_in_another_process(options):
    cost = measure_in_subprocess(options)
    assert isinstance(cost, StepCost)
    assert 0 < cost.seconds < 60 and cost.peak > 50e6
    assert cost.parameters == measure(options).parameters


def test_a_variant_that_cannot_run_is_listed_with_the_reason(options, monkeypatch):
    def measured(variant):
        return "out of memory" if variant.runtime.precision == "bf16" else StepCost(0.5, 10**9, 7)

    monkeypatch.setattr(planning, "measure_in_subprocess", measured)
    lines = list(plan_lines(options, make_schedule("100 steps", "50%", 1, 7)))
    asked = next(line for line in lines if line.endswith("as asked"))
    assert asked.split()[:2] == ["0.5", "2"] and "50.0 s" not in asked and "0.8 min" in asked
    assert sum(line.endswith(": out of memory") for line in lines) == 2


def test_what_fits_follows_from_the_growth_with_the_batch(options, monkeypatch):
    def measured(variant):  # 1 GB for the program, and 1 GB for each image of 16 x 16
        return StepCost(1.0, (1 + variant.batch_size) * 10**9, 7)

    monkeypatch.setattr(planning, "measure_in_subprocess", measured)
    monkeypatch.setattr(planning, "free_memory", lambda _: 19e9 / planning.MEMORY_SHARE)
    last = list(plan_lines(options, make_schedule("100 steps", "50%", 1, 7)))[-1]
    assert "batch_size=18 at 16 pixels" in last  # 19 GB, of which the program uses one
    assert "data.crop_size=64 at batch_size=1" in last  # 67 pixels, in multiples of 32


def test_a_budget_sets_a_schedule_of_the_same_shape(options, monkeypatch):
    monkeypatch.setattr(planning, "measure_in_subprocess", lambda _: StepCost(2.0, 10**9, 7))
    before = train_options(["demo", "data.root=x", "budget=1h", "decay_after=25%"])
    assert before is not None
    after = apply_budget(before, make_schedule("1000 steps", "25%", 1, 9))
    assert (after.duration, after.decay_after) == ("1710 steps", "428 steps")  # 95 % of 1800


def test_a_step_that_cannot_be_measured_refuses_a_budget(options, monkeypatch):
    monkeypatch.setattr(planning, "measure_in_subprocess", lambda _: "out of memory")
    with raises_user_error(option="budget"):
        apply_budget(options, make_schedule("1000 steps", "25%", 1, 9))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90min", 5400), ("6h", 21600), ("1.5d", 129600), (" 30 s ", 30)]
)
def test_times_are_read(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["6", "six hours", "-1h", "0h", "1e9h", "6hh", "h"])
def test_a_budget_that_is_not_a_time_is_refused(text):
    with raises_user_error(option="budget"):
        parse_budget(text)


def test_a_budget_for_less_than_ten_steps_is_refused():
    with pytest.raises(UserError, match="9") as answer:
        fit_to_budget(make_schedule("100 steps", "50%", 1, 9), 9.5, 1.0)
    assert answer.value.option == "budget"


def test_plan_starts_no_run_and_a_run_with_a_budget_continues_with_its_schedule(
    photos, tmp_path, monkeypatch, capsys
):
    seconds = iter((1.0, 999.0))  # measured once, when the run begins
    monkeypatch.setattr(
        planning, "measure_in_subprocess", lambda _: StepCost(next(seconds), 10**9, 7)
    )
    words = ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'run'}", *TINY, "budget=13s"]
    assert call(train, *words) == (0, "")
    assert "budget=13s: duration set to 12 steps" in capsys.readouterr().out
    assert call(train, *words) == (0, "")
    assert "is finished: 12 steps" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 12 and rows[-1]["learning_rate"] < 0.0001

    monkeypatch.setattr(planning, "measure_in_subprocess", lambda _: StepCost(1.0, 10**9, 7))
    words = ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'none'}", *TINY, "plan=true"]
    assert call(train, *words) == (0, "")
    assert re.search(r"^plan: cyclegan, 1,400 steps", capsys.readouterr().out)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 123456 bytes.",
            "123456 bytes",
        ),
        ("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has", "2.50 GiB"),
    ],
)
def test_a_run_out_of_memory_says_what_was_asked_for_and_what_helps(
    photos, tmp_path, monkeypatch, message, size
):
    from engine.train_step import TrainStep

    real = TrainStep.take_step

    def step(self, batch):
        if self.step == 5:
            raise RuntimeError(message)
        return real(self, batch)

    monkeypatch.setattr(TrainStep, "take_step", step)
    words = ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'run'}", *TINY]
    code, error = call(train, *words, "duration=9 steps", "checkpoint_every=4")
    order = [
        error.index(word)
        for word in ("batch_size", "crop_size", "channels", "bf16", "activation_checkpointing")
    ]
    assert code == 1 and size in error and order == sorted(order)
    monkeypatch.undo()
    assert call(train, *words, "duration=9 steps", "checkpoint_every=4") == (0, "")  # and continues


LIMITED = """
import resource, sys
sys.path.insert(0, {root!r})
import albumentations, train, torch
from common.run_main import run_command
from engine.runtime import Runtime
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {room}, used + {room}))
sys.argv = ["train.py", *{words!r}]
run_command(train.main)
"""


@pytest.mark.parametrize(
    ("more", "code", "line"),
    [
        (["batch_size=4000"], 1, "error: out of memory (asked for "),
        (["method.generator.channels=900"], 2, "error: the networks do not fit into memory"),
    ],
)
def test_a_run_that_does_not_fit_ends_in_one_line(photos, tmp_path, more, code, line):
    words = ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'run'}", *TINY, "log.previews=0",
             "duration=2 steps", "runtime.threads=1", "validation_images=0", *more]  # fmt: skip
    source = LIMITED.format(root=str(ROOT), room=900 * 2**20, words=words)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert done.returncode == code and done.stderr.startswith(line), done.stderr
    assert done.stderr.count("\n") == 1


def test_growth_that_cannot_be_measured_is_not_extrapolated(options, monkeypatch):
    monkeypatch.setattr(planning, "measure_in_subprocess", lambda _: StepCost(1.0, 10**9, 7))
    last = list(plan_lines(options, make_schedule("100 steps", "50%", 1, 7)))[-1]
    assert "no measurable extra memory" in last


def test_a_budget_is_measured_again_until_the_run_has_a_checkpoint(
    photos, tmp_path, monkeypatch, capsys
):
    seconds = iter((1.0, 0.5))
    monkeypatch.setattr(
        planning, "measure_in_subprocess", lambda _: StepCost(next(seconds), 10**9, 7)
    )
    words = ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'run'}", *TINY, "budget=13s"]
    (tmp_path / "empty").mkdir()
    assert call(train, *words, f"init_from={tmp_path / 'empty'}")[0] == 2  # no checkpoint
    assert call(train, *words) == (0, "")
    assert "budget=13s: duration set to 24 steps" in capsys.readouterr().out
