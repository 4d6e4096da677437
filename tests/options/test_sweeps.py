"""The sweep files work: the commands that a W&B agent would run are valid, and one is run."""

import itertools

import pytest
import wandb
import yaml
from wandb.sdk.launch.sweeps import utils

import train
from engine.tracking.offline_run_reader import read_offline
from options.load import saved_options, to_dict, train_options
from options.presets import flatten
from tests.conftest import ROOT, TINY, call, written

SWEEPS = sorted((ROOT / "options/sweeps").glob("*.yaml"))


def read(path):
    return yaml.safe_load(path.read_text())


def trials(sweep):
    """Yield every set of parameters of a grid, in the form that the server sends to an agent."""
    names = sweep["parameters"]
    for values in itertools.product(*(names[name]["values"] for name in names)):
        yield {name: {"value": value} for name, value in zip(names, values, strict=True)}


def expanded(sweep, trial):
    """Return the command of an agent, as the wandb library expands it."""
    known = utils.create_sweep_command_args({"args": trial})
    known |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    words = []
    for part in utils.create_sweep_command(list(sweep["command"])):
        words += known[part[2:-1]] if part.startswith("${") else [part]
    return words


def test_there_are_sweeps_of_identity_cycle_and_upsampling():
    assert [path.stem for path in SWEEPS] == ["cycle_weight", "identity_weight", "upsampling"]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_trial_is_a_command_that_sets_its_parameters(path, monkeypatch):
    sweep, folders = read(path), set()
    assert sweep["metric"] == {"name": "best/swd", "goal": "minimize"}
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    for number, trial in enumerate(trials(sweep)):
        monkeypatch.setenv("WANDB_RUN_ID", f"id{number}")
        words = expanded(sweep, trial)
        assert words[:3] == ["/usr/bin/env", "python", "train.py"]
        options = train_options(words[3:])
        assert options is not None
        found = flatten(to_dict(options))
        assert {name: found[name] for name in trial} == {n: v["value"] for n, v in trial.items()}
        folders.add(options.run)
    assert len(folders) == number + 1 >= 2 and "runs/demo-id0" in folders


@pytest.fixture
def fresh_wandb():
    """Reset the wandb library before and after, because it reads the environment once a process."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.parametrize("path", SWEEPS[:1], ids=lambda path: path.stem)
def test_a_trial_runs_under_the_agents_id_and_logs_the_metric_of_the_sweep(
    path, photos, tmp_path, monkeypatch, fresh_wandb
):
    sweep = read(path)
    trial = list(trials(sweep))[-1]
    monkeypatch.chdir(tmp_path)
    for name, value in (("SWEEP_ID", "s"), ("RUN_ID", "abc123"), ("MODE", "offline")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    words = [word for word in TINY if "wandb" not in word]
    assert call(train, *expanded(sweep, trial)[3:], f"data.root={photos}", "duration=2 steps",
                *words) == (0, "")  # fmt: skip
    written()
    run = tmp_path / "runs/demo-abc123"
    (folder,) = (run / "wandb").glob("offline-run-*-abc123")
    found = read_offline(folder)
    assert found.run_id == "abc123" == (run / "wandb_id").read_text()
    assert found.summary["best/swd"] > 0
    assert to_dict(saved_options(run / "options.yaml"))["method"]["cycle_weight"] == 30
