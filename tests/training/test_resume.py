"""The same command continues a run, with the options and the schedule that it began with."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

import train
from common.errors import RunError
from engine.checkpoint import Checkpoints, load_checkpoint
from engine.train_step import TrainStep
from options.load import saved_options
from tests.conftest import TINY, call, refusal, write_images
from training import reporter
from training.metrics_log import MetricsLog


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def words(photos, run, *more):
    return ["cyclegan", f"data.root={photos}", f"run={run}", *TINY, *more]


@pytest.fixture
def images(tmp_path):
    for name, first in (("trainA", 0), ("trainB", 50)):
        write_images(tmp_path / "photos" / name, 6, first=first)
    return tmp_path / "photos"


class Stop(Exception):
    """End a run at a step, like a power cut."""


@pytest.fixture
def cut(monkeypatch):
    """Return a function that lets runs end after a given step; -1: never."""
    real = TrainStep.take_step

    def at(step):
        def take_step(self, batch):
            if self.step == step:
                raise Stop
            return real(self, batch)

        monkeypatch.setattr(TrainStep, "take_step", take_step)

    return at


def test_a_run_counted_in_epochs_is_as_long_as_planned_when_images_are_gone(
    images, tmp_path, cut, capsys
):
    command = words(images, tmp_path / "run", "duration=3 epochs", "checkpoint_every=7")
    cut(10)  # of 18
    with pytest.raises(Stop):
        call(train, *command)
    for name in ("trainA", "trainB"):
        for file in sorted((images / name).iterdir())[3:]:
            file.unlink()
    cut(-1)
    capsys.readouterr()
    assert call(train, *command) == (0, "")
    assert rows(tmp_path / "run")[-1]["step"] == 18 and rows(tmp_path / "run")[-1]["epoch"] == 3
    assert "3 train images of a are not those that the run began with" in capsys.readouterr().out


def test_a_byte_that_is_not_text_loses_its_line_and_not_the_run(images, tmp_path, cut):
    run = tmp_path / "run"
    command = words(images, run, "duration=8 steps", "checkpoint_every=4", "log.every=1")
    cut(5)
    with pytest.raises(Stop):
        call(train, *command)
    content = bytearray((run / "metrics.jsonl").read_bytes())
    content[20] = 0xFF
    (run / "metrics.jsonl").write_bytes(content)
    cut(-1)
    assert call(train, *command) == (0, "")
    assert [row["step"] for row in rows(run)] in ([1, *range(2, 9)], [*range(2, 9)])


@pytest.mark.parametrize("way", ["removed", "edited"])
def test_options_are_those_of_the_checkpoint_whatever_options_yaml_says(images, tmp_path, cut, way):
    run = tmp_path / "run"
    command = words(images, run, "duration=8 steps", "checkpoint_every=4")
    cut(5)
    with pytest.raises(Stop):
        call(train, *command)
    path = run / "options.yaml"
    text = path.read_text()
    assert "learning_rate: 0.0002" in text
    if way == "removed":
        path.unlink()
    else:
        path.write_text(text.replace("learning_rate: 0.0002", "learning_rate: 0.01"))
    before = path.exists() and path.read_text()
    cut(-1)
    code, error = call(train, *command, "learning_rate=0.01")
    assert code == 2 and "learning_rate 0.0002 -> 0.01" in error
    assert refusal(train, *command, "learning_rate=0.01").option == "learning_rate"
    assert (path.exists() and path.read_text()) == before
    if way == "removed":
        assert call(train, *command) == (0, "") and path.read_text() == text


def test_initial_weights_are_not_needed_to_continue_a_run(trained, images, tmp_path, cut):
    origin = tmp_path / "origin"
    shutil.copytree(trained, origin)
    command = words(images, tmp_path / "run", "duration=8 steps", "checkpoint_every=4",
                    f"init_from={origin}", "ema_half_life=4")  # fmt: skip
    cut(5)
    with pytest.raises(Stop):
        call(train, *command)
    shutil.rmtree(origin)
    cut(-1)
    assert call(train, *command) == (0, "")
    error = refusal(train, *command, f"run={tmp_path / 'other'}")
    assert (error.option, error.path) == ("init_from", str(origin))


def test_a_last_checkpoint_that_cannot_be_saved_is_an_error_even_with_on_save_error_warn(
    images, tmp_path, monkeypatch, capsys
):
    real = Checkpoints.save

    def save(self, state, step, score=None):
        if step > 4:
            raise RunError(f"step {step}: disk full")
        return real(self, state, step, score)

    command = words(images, tmp_path / "run", "duration=9 steps", "checkpoint_every=2",
                    "on_save_error=warn")  # fmt: skip
    with monkeypatch.context() as context:
        context.setattr(Checkpoints, "save", save)
        assert call(train, *command) == (1, "step 9: disk full")
    out = capsys.readouterr().out
    assert "step 6: disk full; training goes on without" in out and "finished" not in out
    assert call(train, *command) == (0, "")
    assert rows(tmp_path / "run")[-1]["step"] == 9


def test_a_preview_or_a_log_line_on_a_full_disk_is_a_warning_if_the_option_allows_it(
    images, tmp_path, monkeypatch, capsys
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reporter, "draw_previews", full)
    command = words(
        images, tmp_path / "run", "duration=4 steps", "log.every=2", "log.previews_every=2"
    )
    assert call(train, *command) == (1, f"{tmp_path / 'run'}: No space left on device")
    assert call(train, *command, f"run={tmp_path / 'two'}", "on_save_error=warn") == (0, "")
    assert "warning: a preview could not be written" in capsys.readouterr().out

    monkeypatch.setattr(MetricsLog, "write", full)
    assert call(train, *command, f"run={tmp_path / 'three'}", "on_save_error=warn") == (0, "")
    assert "a line of metrics.jsonl could not be written" in capsys.readouterr().out


def test_a_log_line_that_a_full_disk_cuts_off_leaves_no_part_of_itself(tmp_path):
    file = MetricsLog(tmp_path / "metrics.jsonl", 0)
    file.write({"step": 1})
    limit = len((tmp_path / "metrics.jsonl").read_bytes()) + 5
    script = (
        "import resource, signal, sys; from training.metrics_log import MetricsLog\n"
        "from pathlib import Path\n"
        f"file = MetricsLog(Path({str(tmp_path / 'metrics.jsonl')!r}), 1)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try: file.write({'step': 2})\n"
        "except OSError: sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 7
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("decay_after=200%", "'200%'"),
        ("batch_size=[1,2]", "'[1, 2]' is not a whole number"),
        ("batch_size=many", "'many' is not a whole number"),
        ("learning_rate=fast", "'fast' is not a number"),
    ],
)
def test_a_wrong_number_is_refused_by_the_name_of_its_option(setting, value):
    code, error = call(train, "cyclegan", setting, "run=never")
    assert code == 2 and value in error
    assert refusal(train, "cyclegan", setting, "run=never").option == setting.partition("=")[0]


def test_similar_words_are_suggested():
    assert "did you mean --list?" in call(train, "demo", "--lst")[1]
    assert call(train, "demoo")[1] == "unknown preset 'demoo'; did you mean demo?"


def test_variables_of_torchrun_that_are_not_numbers_are_refused(monkeypatch):
    names = {
        "RANK": "x",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "1",
    }
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    code, error = call(train, "demo")
    assert code == 2 and "RANK" in error and "torchrun" in error


def moved(photos, tmp_path, change=None):
    """Return where the same images are now; `change` may alter one of them."""
    shutil.copytree(photos, tmp_path / "moved")
    if change:
        change(tmp_path / "moved")
    return tmp_path / "moved"


def test_a_run_continues_with_the_same_images_in_another_folder(images, tmp_path, cut, capsys):
    cut(2)
    with pytest.raises(Stop):
        call(train, *words(images, tmp_path / "run", "duration=4 steps", "checkpoint_every=2"))
    cut(-1)
    place = moved(images, tmp_path)
    shutil.rmtree(images)
    assert call(train, *words(place, tmp_path / "run", "duration=4 steps", "checkpoint_every=2",
                              "runtime.threads=1")) == (0, "")  # fmt: skip
    printed = capsys.readouterr().out
    assert "their contents agree" in printed and "no longer bit for bit" in printed
    assert saved_options(tmp_path / "run/options.yaml").data.root == str(place)


def test_a_run_does_not_continue_with_other_images(images, tmp_path, cut):
    cut(2)
    with pytest.raises(Stop):
        call(train, *words(images, tmp_path / "run", "duration=4 steps", "checkpoint_every=2"))
    cut(-1)
    place = moved(images, tmp_path, lambda folder: write_images(folder / "trainA", 1, first=99))
    command = words(place, tmp_path / "run", "duration=4 steps", "checkpoint_every=2")
    error = refusal(train, *command)
    assert error.option == "data.root" and "other images" in str(error)


def test_a_run_continues_for_longer_where_the_schedule_so_far_is_the_same(images, tmp_path, cut):
    short = words(images, tmp_path / "run", "duration=4 steps", "decay_after=4 steps")
    assert call(train, *short) == (0, "")
    longer = ["duration=6 steps", "decay_after=6 steps"]
    assert call(train, *words(images, tmp_path / "run", *longer)) == (0, "")
    assert call(train, *words(images, tmp_path / "at_once", *longer)) == (0, "")
    one, other = (load_checkpoint(tmp_path / run / "checkpoints/step_00000006.pt")
                  for run in ("run", "at_once"))  # fmt: skip
    tensors = [key for key, value in one["method"].items() if isinstance(value, torch.Tensor)]
    assert len(tensors) > 20
    assert all(one["method"][key].equal(other["method"][key]) for key in tensors)
    error = refusal(
        train, *words(images, tmp_path / "run", "duration=8 steps", "decay_after=2 steps")
    )
    assert error.option == "duration" and "init_from" in str(error)
