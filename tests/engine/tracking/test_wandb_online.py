"""An online run logs to a fake server, and goes on without it."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import train
from engine.tracking import wandb_config, wandb_run
from engine.train_step import TrainStep
from tests.conftest import TINY, call, written

WORDS = [word for word in TINY if "wandb" not in word]


def command(photos, run, *more):
    return ("cyclegan", f"data.root={photos}", f"run={run}", "duration=8 steps", "log.every=2",
            "checkpoint_every=4", "log.previews=0", "log.wandb=online", *WORDS, *more)  # fmt: skip


@pytest.fixture
def at_step(monkeypatch):
    """Return a function that runs an action once, before a given step."""
    real = TrainStep.take_step

    def schedule(step, action):
        done = []

        def take_step(self, batch):
            if self.step == step and not done:
                done.append(step)
                action()
            return real(self, batch)

        monkeypatch.setattr(TrainStep, "take_step", take_step)

    return schedule


def interrupt():
    raise KeyboardInterrupt


def steps(run):
    return [row["_step"] for row in run.history if "loss/cycle_a" in row]


def recorded(run):
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_keeps_its_id_and_its_steps_rise(photos, tmp_path, server, at_step):
    run = tmp_path / "run"
    at_step(5, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train.main([*command(photos, run)])
    written()
    identity = (run / "wandb_id").read_text()
    assert [*server.runs] == [identity] and steps(server.runs[identity]) == [1, 2, 4]
    assert call(train, *command(photos, run)) == (0, "")
    written()
    found = server.runs[identity]
    assert [*server.runs] == [identity] and steps(found) == [1, 2, 4, 6, 8] == recorded(run)
    assert found.config["method"]["value"]["cycle_weight"] == 10.0
    assert found.summary["best/swd"] > 0 and server.unknown == []


def test_a_server_that_dies_in_mid_run_does_not_stop_training(
    photos, tmp_path, server, at_step, monkeypatch
):
    monkeypatch.setattr(wandb_run, "FINISH_TIMEOUT", 3)
    run = tmp_path / "run"
    at_step(3, server.die)
    began = time.monotonic()
    assert call(train, *command(photos, run)) == (0, "")
    assert recorded(run) == [1, 2, 4, 6, 8] and time.monotonic() - began < 60


def test_the_librarys_service_may_crash_and_training_ends_well(photos, tmp_path, server):
    server.nonsense.add("CreateRunFiles")  # its upload of files then fails beyond repair
    done = subprocess.run(
        [sys.executable, "train.py", *command(photos, tmp_path / "run")],
        cwd=Path(train.__file__).parent, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and "finished: 8 steps" in done.stdout, done.stderr
    assert recorded(tmp_path / "run") == [1, 2, 4, 6, 8]


def test_the_data_the_run_and_its_checkpoints_are_joined_by_artifacts(photos, tmp_path, server):
    run = tmp_path / "run"
    assert call(train, *command(photos, run, "log.artifacts=true")) == (0, "")
    written()
    identity = (run / "wandb_id").read_text()
    data, *models = server.artifacts
    assert data == (f"data-{photos.name}", "dataset", ["latest"]) and server.used == ["artifact1"]
    assert {model[:2] for model in models} == {(f"run-{identity}", "model")}
    aliases = [alias for model in models for alias in model[2]]
    assert {"best", "latest", "step-8"} <= {*aliases} and server.unknown == []


def test_failed_artifacts_do_not_stop_the_log(photos, tmp_path, server, capsys, monkeypatch):
    server.nonsense.add("query ArtifactType(")
    run = tmp_path / "run"
    assert call(train, *command(photos, run, "log.artifacts=true")) == (0, "")
    written()
    assert "is not in W&B" in capsys.readouterr().out
    assert steps(server.runs[(run / "wandb_id").read_text()]) == [1, 2, 4, 6, 8]


def test_an_artifact_is_not_waited_for_longer_than_the_timeout(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(wandb_run, "FINISH_TIMEOUT", 0.2)
    run = wandb_run.WandbRun(wandb_config.LogConfig(wandb="disabled"), tmp_path, "abc", {})
    run.run, run.uploads = object(), True
    began, wait = time.monotonic(), threading.Event()
    run._with_artifact("thing", wait.wait)
    assert time.monotonic() - began < 5
    assert "thing is not in W&B (the server did not answer in time)" in capsys.readouterr().out
    wait.set()
