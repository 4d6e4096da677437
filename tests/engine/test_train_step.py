"""The same command continues a run exactly, and the run folder holds what it should."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import train
from common.errors import UserError
from engine.checkpoint import Checkpoints
from tests.conftest import ROOT, TINY, assert_same, call, raises_user_error
from training.loop import Loop


def words(photos, run, *more):
    return ["cyclegan", f"data.root={photos}", f"run={run}", "duration=12 steps",
            "checkpoint_every=5", "log.every=1", "log.previews_every=0", "method.pool_size=3",
            "batch_size=2", "ema_half_life=8", "method.generator.dropout=0.3",
            "data.color_jitter=0.2", *TINY, *more]  # fmt: skip


def losses(run):
    plain = {"seconds"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in plain} for row in rows]


def final(run):
    return Checkpoints(run / "checkpoints").load_latest()


@pytest.fixture(scope="module")
def uninterrupted(photos, tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert call(train, *words(photos, run)) == (0, "")
    return run


class Killed(BaseException):
    """An end as abrupt as SIGKILL: no cleanup of the training may run after it."""


@pytest.mark.parametrize("moment", [0, 1, 3, 5, 6, 7, 11])  # 3: pool full; 6: the rate falls
def test_a_run_killed_at_any_step_and_started_again_is_bit_identical(
    uninterrupted, photos, tmp_path, monkeypatch, moment
):
    from engine.train_step import TrainStep

    real = TrainStep.take_step

    def take_step(self, batch):
        if self.step == moment:
            raise Killed
        return real(self, batch)

    monkeypatch.setattr(TrainStep, "take_step", take_step)
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train.main(words(photos, run))
    monkeypatch.undo()
    assert call(train, *words(photos, run)) == (0, "")
    assert losses(run) == losses(uninterrupted)
    assert_same(final(run), final(uninterrupted))
    assert len(final(run)["method"]["image_pool_a._extra_state"]["images"]) == 3


@pytest.mark.parametrize(("first", "then"), [(0, 2), (2, 0)])
def test_another_number_of_workers_may_continue(
    uninterrupted, photos, tmp_path, monkeypatch, first, then
):
    from engine.train_step import TrainStep

    real = TrainStep.take_step
    monkeypatch.setattr(
        TrainStep, "take_step",
        lambda self, batch: real(self, batch) if self.step < 6 else (_ for _ in ()).throw(Killed),
    )  # fmt: skip
    with pytest.raises(Killed):
        train.main(words(photos, tmp_path / "run", f"data.workers={first}"))
    monkeypatch.undo()
    assert call(train, *words(photos, tmp_path / "run", f"data.workers={then}")) == (0, "")
    assert_same(final(tmp_path / "run"), final(uninterrupted))


def test_the_comparison_sees_every_part_of_the_state(uninterrupted):
    def leaves(value):
        if isinstance(value, dict):
            for key in value:
                yield from ((key, *rest) for rest in leaves(value[key]))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from ((index, *rest) for rest in leaves(item))
        else:
            yield ()

    state = final(uninterrupted)
    assert state.keys() == {"format", "step", "seconds", "method", "optimizers", "ema", "options",
                     "rollbacks", "frozen_until", "score_definition"}  # fmt: skip
    moments = [path for path in leaves(state["optimizers"]) if path[-1] == "exp_avg_sq"]
    names = [path[-1] for path in leaves(state["method"])]
    dead = sum(name.endswith("bias") for name in names) - 6  # G's last, D's first and last layer
    assert len(moments) == len(names) - 2 - dead > 0  # all but the two image pools


def changed(value):
    """Return a part of a state with 1 added to every number in its tensors."""
    if isinstance(value, dict):
        return {key: changed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [changed(item) for item in value]
    return value + 1 if isinstance(value, torch.Tensor) else value


def with_one_part_changed(state):
    """Yield a name and a state for every network, image pool, kind of moment, and the EMA."""
    for part in sorted({name.partition(".")[0] for name in state["method"]}):
        method = {
            n: changed(x) if n.split(".")[0] == part else x for n, x in state["method"].items()
        }
        yield part, {**state, "method": method}
    for name, optimizer in state["optimizers"].items():
        for kind in ("step", "exp_avg", "exp_avg_sq"):
            moments = {
                number: {k: changed(x) if k == kind else x for k, x in entry.items()}
                for number, entry in optimizer["state"].items()
            }
            optimizers = {**state["optimizers"], name: {**optimizer, "state": moments}}
            yield f"{kind} of {name}", {**state, "optimizers": optimizers}
    yield "ema", {**state, "ema": changed(state["ema"])}
    yield "step", {**state, "step": state["step"] + 1}


@pytest.mark.slow
def test_a_resumed_run_is_another_when_any_part_of_its_state_is(
    uninterrupted, photos, tmp_path, monkeypatch, record_property
):
    from engine.train_step import TrainStep

    real = TrainStep.take_step
    monkeypatch.setattr(
        TrainStep, "take_step",
        lambda self, batch: real(self, batch) if self.step < 6 else (_ for _ in ()).throw(Killed),
    )  # fmt: skip
    with pytest.raises(Killed):
        train.main(words(photos, tmp_path / "killed"))
    monkeypatch.undo()

    def is_noticed(state):
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(tmp_path / "killed", run)
        content = {name: value for name, value in state.items() if name != "format"}
        Checkpoints(run / "checkpoints").save(content, 5)
        assert call(train, *words(photos, run)) == (0, "")
        try:
            assert losses(run) == losses(uninterrupted)
            assert_same(final(run), final(uninterrupted))
        except AssertionError:
            return True
        return False

    state = final(tmp_path / "killed")
    assert state["step"] == 5 and not is_noticed(state)
    noticed = {name: is_noticed(other) for name, other in with_one_part_changed(state)}
    assert len(noticed) > 12 and all(noticed.values()), noticed
    record_property("figure", f"{sum(noticed.values())} of {len(noticed)} changes noticed")


def test_the_same_command_on_a_finished_run_says_so(uninterrupted, photos, capsys):
    before = losses(uninterrupted)
    assert call(train, *words(photos, uninterrupted)) == (0, "")
    assert "is finished: 12 steps" in capsys.readouterr().out
    assert losses(uninterrupted) == before


def test_another_configuration_in_the_folder_is_refused_and_nothing_is_changed(
    uninterrupted, photos
):
    before = {path: path.read_bytes() for path in uninterrupted.rglob("*") if path.is_file()}
    code, error = call(train, *words(photos, uninterrupted, "learning_rate=0.1"))
    assert code == 2 and "learning_rate 0.0002 -> 0.1" in error
    assert before == {
        path: path.read_bytes() for path in uninterrupted.rglob("*") if path.is_file()
    }


def test_the_options_file_repeats_the_run_elsewhere(uninterrupted, tmp_path):
    code = call(train, str(uninterrupted / "options.yaml"), f"run={tmp_path / 'again'}")
    assert code == (0, "")
    assert losses(tmp_path / "again") == losses(uninterrupted)
    assert_same(final(tmp_path / "again"), final(uninterrupted))


def test_two_seeds_give_two_runs(uninterrupted, photos, tmp_path):
    assert call(train, *words(photos, tmp_path / "run", "seed=1")) == (0, "")
    assert losses(tmp_path / "run") != losses(uninterrupted)


def test_a_line_of_the_metrics_has_what_one_wants_to_plot(uninterrupted):
    rows = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert [row["images"] for row in rows] == list(range(2, 25, 2))
    for name in (
        "seconds",
        "learning_rate",
        "epoch",
        "cycle_a",
        "discriminator_b",
    ):
        assert all(name in row for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


def test_previews_show_every_direction(trained):
    names = sorted(path.name for path in (trained / "previews").iterdir())
    assert names == [f"step_{n:08d}_{d}.png" for n in (4, 8) for d in ("a_to_b", "b_to_a")]


def test_a_loss_that_is_not_finite_ends_the_run_with_code_3_and_keeps_the_checkpoint(
    photos, tmp_path, monkeypatch
):
    from engine.train_step import TrainStep

    real = TrainStep.take_step

    def take_step(self, batch):
        found = real(self, batch)
        if self.step == 8:
            found["cycle_a"] = found["cycle_a"] * float("nan")
        return found

    monkeypatch.setattr(TrainStep, "take_step", take_step)
    code, error = call(train, *words(photos, tmp_path / "run", "log.every=50"))
    assert code == 3 and "cycle_a became nan at step 8" in error
    assert final(tmp_path / "run")["step"] == 5


def start(photos, run, *more) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        *words(photos, run, "duration=100000 steps", *more),
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=run.parent,
    )


def alive(process: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_steps(run: Path) -> None:
    for _ in range(600):
        if (run / "metrics.jsonl").exists() and len(
            (run / "metrics.jsonl").read_text().splitlines()
        ) > 3:
            return
        time.sleep(0.1)
    raise AssertionError("the run did not start")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)]
)
def test_a_signal_saves_and_leaves_with_its_code(photos, tmp_path, number, code, record_property):
    run = tmp_path / "run"
    process = start(photos, run, "checkpoint_every=1000000", "data.workers=1")
    wait_for_steps(run)
    readers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code and "the same command continues" in out and err == ""
    seconds = time.monotonic() - began
    record_property("figure", f"{seconds:.1f} s")
    assert seconds < 5
    assert readers and not any(alive(int(reader)) for reader in readers)
    step = final(run)["step"]
    assert losses(run)[-1]["step"] == step


def test_a_second_signal_ends_a_run_at_once():
    source = (
        "import os, signal, sys\nfrom training.signals import StopSignals\n"
        "with StopSignals() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    print(stop.requested, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    print('still here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (143, "2\n", "")


def test_a_checkpoint_of_other_networks_is_answered_with_their_names():
    from engine.runtime import Runtime, RuntimeConfig
    from engine.schedule import make_schedule
    from engine.train_config import TrainingConfig
    from engine.train_step import TrainStep
    from models import methods
    from tests.conftest import shrink

    method = methods.find("cyclegan")(shrink("cyclegan"), {"a": 3, "b": 3})
    schedule, runtime = make_schedule("5 steps", "50%", 4, 10), Runtime(RuntimeConfig(device="cpu"))
    train_step = TrainStep(method, TrainingConfig(), schedule, runtime)
    first, second, third, *_ = sorted(method.state_dict())
    for weights, fragment in (
        ({}, f"missing {first}, {second}, {third} and "),
        ({**method.state_dict(), "stray": torch.zeros(1)}, "unknown stray"),
        (None, "does not fit these networks"),
    ):
        with pytest.raises(UserError, match=fragment) as caught:
            train_step.restore({"method": weights, "optimizers": {}, "step": 1, "seconds": 0.0})
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
        assert train_step.step == 0


def test_a_killed_reader_ends_the_run_with_one_line_and_code_1(photos, tmp_path, record_property):
    run = tmp_path / "run"
    process = start(photos, run, "data.workers=1")
    wait_for_steps(run)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    seconds = time.monotonic() - began
    record_property("figure", f"{seconds:.1f} s")
    record_property("met", seconds < 2)  # on a busy machine it may be more
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("error: a process that reads images was killed")
    assert "Traceback" not in err


def test_a_second_run_in_the_folder_is_refused_while_the_first_lives(photos, tmp_path):
    from common.run_folder import run_lock

    run = tmp_path / "run"
    run.mkdir()
    with run_lock(run):
        code, error = call(train, *words(photos, run))
    assert code == 2 and f"in use by process {os.getpid()}" in error


def test_a_batch_computed_in_microbatches_has_the_gradients_of_the_whole():
    from engine.runtime import Runtime, RuntimeConfig
    from engine.schedule import make_schedule
    from engine.train_config import TrainingConfig
    from engine.train_step import TrainStep
    from models import methods
    from tests.conftest import shrink

    found = []
    for parts in (1, 2, 4):
        torch.manual_seed(0)
        method = methods.find("cyclegan")(shrink("cyclegan"), {"a": 3, "b": 3})
        config = TrainingConfig(duration="5 steps", batch_size=4, microbatches=parts)
        runtime = Runtime(RuntimeConfig(device="cpu"))
        train_step = TrainStep(method, config, make_schedule("5 steps", "50%", 4, 10), runtime)
        generator = torch.Generator().manual_seed(1)
        batch = {d: torch.randint(0, 256, (4, 3, 16, 16), generator=generator).byte() for d in "ab"}
        losses = train_step.take_step(batch)
        found.append((losses, [p.grad for p in method.parameters() if p.ndim > 1]))
    for losses, gradients in found[1:]:
        assert {n: x.item() for n, x in losses.items()} == pytest.approx(
            {n: x.item() for n, x in found[0][0].items()}, rel=1e-5
        )
        for one, two in zip(gradients, found[0][1], strict=True):
            assert torch.allclose(one, two, rtol=1e-4, atol=1e-5 * float(two.abs().max()))


def test_every_optimizer_group_has_the_weight_decay_of_the_options():
    from engine.runtime import Runtime, RuntimeConfig
    from engine.schedule import make_schedule
    from engine.train_config import TrainingConfig
    from engine.train_step import TrainStep
    from models import methods
    from tests.conftest import shrink

    method = methods.find("unit")(shrink("unit"), {"a": 3, "b": 3})
    config = TrainingConfig(duration="5 steps", weight_decay=0.01)
    runtime = Runtime(RuntimeConfig(device="cpu"))
    train_step = TrainStep(method, config, make_schedule("5 steps", "50%", 1, 10), runtime)
    decays = [g["weight_decay"] for x in train_step.optimizers.values() for g in x.param_groups]
    assert decays == [0.01, 0.01]
    with raises_user_error(option="weight_decay"):
        TrainingConfig(weight_decay=-1)


@pytest.mark.parametrize("unbuffered", ["", "1"])  # then every print meets the closed pipe itself
def test_a_closed_output_does_not_stop_a_run(photos, tmp_path, unbuffered):
    run = tmp_path / "run"
    command = " ".join([sys.executable, str(ROOT / "train.py"), *words(photos, run)]).replace(
        "12 steps", "12\\ steps"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -1"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert final(run)["step"] == 12


def test_a_signal_at_a_checkpoint_keeps_its_score(photos, tmp_path, monkeypatch):
    real = Loop._validate

    def score(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self)

    monkeypatch.setattr(Loop, "_validate", score)
    assert call(train, *words(photos, tmp_path / "run"))[0] == 143
    monkeypatch.undo()
    (entry,) = json.loads((tmp_path / "run/checkpoints/manifest.json").read_text())[
        "files"
    ].values()
    assert entry["step"] == 5 and entry["score"] is not None


def test_a_step_reads_nothing_back_from_the_device():
    from torch.utils._python_dispatch import TorchDispatchMode

    from engine.runtime import Runtime, RuntimeConfig
    from engine.schedule import make_schedule
    from engine.train_config import TrainingConfig
    from engine.train_step import TrainStep
    from models import methods
    from tests.conftest import shrink

    class Watch(TorchDispatchMode):
        """Fail where a value of a tensor is read, for which a GPU would be waited for."""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert "_local_scalar_dense" not in str(func) and "nonzero" not in str(func), func
            return func(*args, **(kwargs or {}))

    torch.manual_seed(0)
    method = methods.find("cyclegan")(shrink("cyclegan"), {"a": 3, "b": 3})
    config = TrainingConfig(duration="9 steps", batch_size=2, ema_half_life=4)
    runtime = Runtime(RuntimeConfig(device="cpu"))
    train_step = TrainStep(method, config, make_schedule("9 steps", "50%", 2, 9), runtime)
    batch = {d: torch.randint(0, 256, (2, 3, 16, 16)).byte() for d in "ab"}
    with Watch():
        for _ in range(4):  # the image pool fills, then swaps
            losses = train_step.take_step(batch)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            losses["cycle_a"].item()


def test_scores_are_logged_when_asked_for_and_the_best_has_a_checkpoint(photos, tmp_path):
    run = tmp_path / "run"
    more = ("validate_every=3", "validation_metrics=[swd,color,spectrum]",
            "checkpoint_every=100", "log.every=4", "data.validation=0.4",
            "learning_rate=0.01")  # fmt: skip
    assert call(train, *words(photos, run, *more)) == (0, "")
    rows = losses(run)
    assert [row["step"] for row in rows] == [1, 3, 4, 6, 8, 9, 12]
    scored = {row["step"]: row for row in rows if "score/swd" in row}
    assert sorted(scored) == [3, 6, 9, 12]
    assert all(
        {"score/swd", "score/color", "score/spectrum"} < row.keys() for row in scored.values()
    )
    best = min(scored, key=lambda step: scored[step]["score/swd"])
    checkpoints = Checkpoints(run / "checkpoints")
    assert checkpoints.load_best()["step"] == best and checkpoints.load_latest()["step"] == 12


def test_scoring_does_not_change_what_is_learnt(uninterrupted, photos, tmp_path):
    run = tmp_path / "run"
    assert call(train, *words(photos, run, "validate_every=2")) == (0, "")
    assert_same(final(run), final(uninterrupted))
