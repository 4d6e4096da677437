"""One command trains several seeds, one after the other, and continues where it was stopped."""

import json

import pytest

import train
from options.load import saved_options, train_options
from tests.conftest import TINY, call, raises_user_error
from training.train import runs_for_seeds

LOGGED = ["log.every=1", "log.wandb=disabled"]


def command(photos, run, *more):
    return ("cyclegan", f"data.root={photos}", f"run={run}", "duration=3 steps", "seeds=[0,2]",
            "checkpoint_every=2", *TINY, *LOGGED, *more)  # fmt: skip


def steps_of(run):
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_for_each_seed_in_one_group_and_a_killed_one_is_continued(
    photos, tmp_path, monkeypatch, capsys
):
    from engine.train_step import TrainStep

    real, run = TrainStep.take_step, tmp_path / "x"

    def take_step(self, batch):
        if self.seed == 2 and self.step == 2 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            raise KeyboardInterrupt
        return real(self, batch)

    monkeypatch.setattr(TrainStep, "take_step", take_step)
    with pytest.raises(KeyboardInterrupt):
        train.main([*command(photos, run)])
    capsys.readouterr()
    before = (tmp_path / "x-seed0/metrics.jsonl").read_bytes()
    assert call(train, *command(photos, run)) == (0, "")
    out = capsys.readouterr().out
    assert "x-seed0 is finished" in out and "x-seed2 continues at step 2" in out
    assert (tmp_path / "x-seed0/metrics.jsonl").read_bytes() == before
    for seed in (0, 2):
        folder = tmp_path / f"x-seed{seed}"
        saved = saved_options(folder / "options.yaml")
        assert (saved.seed, saved.seeds, saved.log.group) == (seed, [], "x")
        assert steps_of(folder) == [1, 2, 3]
    assert not run.exists()
    first, second = ((tmp_path / f"x-seed{s}/metrics.jsonl").read_text() for s in (0, 2))
    assert (
        json.loads(first.splitlines()[0])["cycle_a"]
        != (json.loads(second.splitlines()[0])["cycle_a"])
    )


def test_a_run_of_many_is_the_run_of_its_seed_alone(photos, tmp_path):
    assert call(train, *command(photos, tmp_path / "x", "seeds=[2]")) == (0, "")
    assert call(train, *command(photos, tmp_path / "y", "seeds=[]", "seed=2")) == (0, "")
    rows = []
    for name in ("x-seed2", "y"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        rows.append([{k: v for k, v in json.loads(x).items() if k != "seconds"} for x in lines])
    assert rows[0] == rows[1]


def test_a_given_group_is_not_replaced():
    options = train_options(["demo", "seeds=[0,1]", "log.group=mine", "run=r/"])
    assert options is not None
    runs = runs_for_seeds(options)
    assert [(x.run, x.log.group) for x in runs] == [("r-seed0", "mine"), ("r-seed1", "mine")]


@pytest.mark.parametrize("seeds", ["[1,1]", "[-1]", "[9223372036854775808]", "[x]"])
def test_invalid_seeds_are_refused(seeds):
    with raises_user_error(option="seeds"):
        train_options(["demo", f"seeds={seeds}"])
