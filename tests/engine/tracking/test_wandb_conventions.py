"""W&B users' expectations of a run, each checked in the files of a real offline run."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import wandb
from PIL import Image

import test
import train
from engine.tracking.offline_run_reader import read_offline
from models.methods.cyclegan import CycleGAN
from tests.conftest import ROOT, TINY, call, written

ENVIRONMENT = {
    "WANDB_PROJECT": "of-the-user", "WANDB_ENTITY": "the-team", "WANDB_TAGS": "one,two",
    "WANDB_NOTES": "a note", "WANDB_NAME": "called so", "WANDB_MODE": "offline",
}  # fmt: skip
WORDS = [word for word in TINY if "wandb" not in word]


def offline_folders(run):
    return sorted((run / "wandb").glob("offline-run-*"))


@pytest.fixture(scope="module")
def logged(photos, tmp_path_factory):
    """The files of a run that was stopped by a signal, resumed, finished and evaluated."""
    folder = tmp_path_factory.mktemp("logged")
    run, patch = folder / "run", pytest.MonkeyPatch()
    wandb.teardown()
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            patch.delenv(name)
    for name, value in ENVIRONMENT.items():
        patch.setenv(name, value)
    patch.setenv("NETRC", str(folder / "none"))
    patch.setenv("HOME", str(folder / "home"))
    wandb.teardown()  # the library reads the environment once a process
    from engine.train_step import TrainStep
    from training.signals import StopSignals

    real, signals = TrainStep.take_step, []
    entered = StopSignals.__enter__
    patch.setattr(StopSignals, "__enter__", lambda self: signals.append(self) or entered(self))

    def take_step(self, batch):
        if self.step == 4 and len(signals) == 1:
            signals[0].requested = 15
        return real(self, batch)

    patch.setattr(TrainStep, "take_step", take_step)
    command = ("cyclegan", f"data.root={photos}", f"run={run}", "duration=8 steps", "log.every=2",
               "validate_every=2", "log.artifacts=true", "log.previews_every=4",
               *WORDS)  # fmt: skip
    assert call(train, *command) == (143, "")
    assert call(train, *command) == (0, "")
    written()
    folders = offline_folders(run)
    parts = [read_offline(path) for path in folders]
    assert call(test, run, "checks=false", "runtime.device=cpu") == (0, "")
    written()
    (path,) = set(offline_folders(run)) - set(
        folders
    )  # a second holds two of one id: the library then adds -1
    yield SimpleNamespace(
        run=run, home=folder / "home", first=parts[0], last=parts[1], tested=read_offline(path),
        test_files=path, rows=[row for part in parts for row in part.history],
        recorded=[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()],
    )  # fmt: skip
    patch.undo()


def test_1_the_environment_names_project_entity_tags_notes_and_name(logged):
    run = logged.first
    assert (run.project, run.tags, run.notes, run.name) == (
        "of-the-user", ["one", "two"], "a note", "called so")  # fmt: skip


def test_2_without_an_account_it_logs_offline_asks_nothing_and_prints_how_to_upload(
    photos, tmp_path
):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, "train.py", "cyclegan", f"data.root={photos}", f"run={tmp_path / 'run'}",
         "duration=1 steps", *WORDS],
        cwd=ROOT, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, timeout=120,
        env=environment | {"NETRC": str(tmp_path / "none"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    (folder,) = offline_folders(tmp_path / "run")
    assert f"upload it with: wandb sync {folder}\n" in done.stdout


def test_3_the_configuration_is_whole_and_has_the_facts_of_code_data_and_machine(logged):
    config, data = logged.first.config, json.loads((logged.run / "data.json").read_text())
    assert {
        "scale of a loss": config["method"]["cycle_weight"], "code": len(config["code"]),
        "data": config["data_fingerprint"], "images": config["images"], "device": config["device"],
        "torch": config["packages"]["torch"], "networks": sorted(config["parameters"]),
    } == {
        "scale of a loss": 10.0, "code": 16, "data": data["fingerprint"],
        "images": {"a": 7, "b": 5},
        "device": "cpu", "torch": torch.__version__.partition("+")[0],
        "networks": ["discriminators", "generators"],
    }  # fmt: skip


def test_4_every_logged_name_is_in_a_section(logged):
    names = {name.partition("/")[0] for row in logged.rows for name in row if name[0] != "_"}
    assert names == {
        "loss", "lr", "gradients", "score", "time", "perf", "previews", "images", "epoch",
    }  # fmt: skip


def test_5_charts_are_drawn_over_images_seen(logged):
    assert logged.first.axes == {"images": "", "*": "images"} and logged.rows[-1]["images"] == 8


def test_6_previews_show_the_same_images_each_time_captioned_as_jpeg(logged):
    shown = [row for row in logged.rows if "previews/a_to_b._type" in row]
    reals = []
    for number, row in zip((4, 8), shown, strict=True):
        assert row["previews/a_to_b.format"] == "jpg"
        assert f"step {number}: real, fake, restored" in row["previews/a_to_b.caption"]
        with Image.open(logged.run / f"previews/step_{number:08d}_a_to_b.png") as grid:
            reals.append(grid.crop((0, 0, 16, 16)).tobytes())
    assert reals[0] == reals[1]


def test_7_the_summary_has_the_best_and_the_final_scores_and_the_test_a_table_of_images(logged):
    scores = [row["score/swd"] for row in logged.recorded if "score/swd" in row]
    table = json.loads(next(logged.test_files.rglob("*a_to_b*.table.json")).read_text())
    assert (
        logged.last.summary["best/swd"], logged.last.summary["final/score/swd"],
        [row[0] for row in table["data"]], logged.tested.job_type, len(scores),
    ) == (min(scores), scores[-1], ["080.png", "081.png", "082.png"], "eval", 4)  # fmt: skip


def test_8_an_offline_run_copies_no_file_into_the_home_folder(logged):
    copied = [p for p in logged.home.rglob("*") if p.is_file() and "logs" not in p.parts]
    assert not copied and logged.first.artifacts == logged.last.artifacts == []


def test_9_a_stopped_run_is_marked_as_preempted_and_continues_under_its_id_with_rising_steps(
    logged,
):
    steps = [row["_step"] for row in logged.rows if "loss/cycle_a" in row]
    assert (logged.first.preempting, logged.last.preempting, logged.first.run_id, steps) == (
        True, False, logged.last.run_id, [1, 2, 4, 6, 8])  # fmt: skip


def test_10_what_is_not_finite_raises_an_alert_and_marks_the_run_failed(
    photos, tmp_path, monkeypatch
):
    wandb.teardown()
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    real = CycleGAN.updates

    def updates(self, batch, step):
        for update in real(self, batch, step):
            update.losses["cycle_a"] = update.losses.get("cycle_a", 0) * float("nan")
            yield update
            return

    monkeypatch.setattr(CycleGAN, "updates", updates)
    run = tmp_path / "run"
    code, _ = call(train, "cyclegan", f"data.root={photos}", f"run={run}", "duration=2 steps",
                   *WORDS, "log.wandb=offline")  # fmt: skip
    written()
    found = read_offline(offline_folders(run)[0])
    assert (code, found.exit_code, ["cycle_a" in text for text in found.alerts]) == (3, 1, [True])


def test_11_losses_are_sent_every_n_steps_and_not_at_each(logged):
    assert len([row for row in logged.rows if "loss/cycle_a" in row]) == 8 // 2 + 1


def test_12_offline_runs_are_ignored_by_git_and_sweeps_are_not():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"wandb/", "runs/"} <= {*ignored} and list((ROOT / "options/sweeps").glob("*.yaml"))


def test_13_no_source_is_uploaded(logged):
    files = [p for p in (logged.run / "wandb").rglob("*") if p.suffix in (".py", ".patch", ".diff")]
    assert not files and not any("code" in name for name in logged.first.files + logged.last.files)
