"""The metrics log of a run, and its copy in Weights & Biases."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train
from engine.tracking.wandb_config import LogConfig, clean_name, wandb_mode
from engine.tracking.wandb_run import WandbRun
from tests.conftest import TINY, call
from training.metrics_log import MetricsLog


def test_rows_that_will_be_computed_again_and_torn_ones_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {n}}}\n' for n in range(1, 8)) + '{"step": 8, "x"')
    rows = MetricsLog(path, from_step=5)
    rows.write({"step": 6})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


@pytest.mark.parametrize(
    ("wanted", "environment", "mode"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "x" * 40}, "online"),
        ("auto", {"WANDB_API_KEY": "x" * 40, "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("online", {"WANDB_MODE": "disabled"}, "online"),
    ],
)
def test_auto_is_online_where_a_key_is_configured(monkeypatch, tmp_path, wanted, environment, mode):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wandb_mode(wanted) == mode


def test_a_key_in_netrc_counts(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text("machine my.host login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", "https://my.host/api")
    assert wandb_mode("auto") == "online"


def inspected(run_folder: Path) -> list[dict]:
    """Return the records of an offline run, read by the library's own inspector."""
    answer = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run_folder)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]


def test_an_offline_run_holds_the_history_the_previews_and_the_whole_configuration(
    photos, tmp_path, monkeypatch
):
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    run = tmp_path / "run"
    command = [
        "cyclegan", f"data.root={photos}", f"run={run}", "checkpoint_every=4", "log.every=2",
        "log.previews_every=4", *[word for word in TINY if "wandb" not in word], "log.wandb=auto",
    ]  # fmt: skip
    from engine.train_step import TrainStep

    real = TrainStep.take_step

    def take_step(self, batch):
        if self.step == 5 and not (run / "again").exists():
            (run / "again").touch()
            raise KeyboardInterrupt
        return real(self, batch)

    monkeypatch.setattr(TrainStep, "take_step", take_step)
    with pytest.raises(KeyboardInterrupt):
        train.main([*command, "duration=8 steps"])
    assert call(train, *command, "duration=8 steps") == (0, "")

    folders = sorted((run / "wandb").glob("offline-run-*"))
    identity = (run / "wandb_id").read_text()
    assert [path.name for folder in folders for path in folder.glob("*.wandb")] == [
        f"run-{identity}.wandb"
    ] * 2
    first, second = (inspected(folder) for folder in folders)
    rows = [row for records in (first, second) for row in history(records) if "loss/cycle_a" in row]
    assert [row["_step"] for row in rows] == [1, 2, 4, 6, 8]
    recorded = {
        json.loads(line)["step"]: json.loads(line)
        for line in (run / "metrics.jsonl").read_text().splitlines()
    }
    for row in rows:
        assert row["loss/cycle_a"] == recorded[row["_step"]]["cycle_a"]
        assert row["images"] == row["_step"]
        assert {"lr/generators", "perf/images_per_s", "epoch", "loss/discriminator_b"} <= row.keys()
    assert rows[-1]["previews/b_to_a._type"] == "image-file"
    for row in (rows[2], rows[-1]):
        path = next((run / "wandb").rglob(Path(row["previews/a_to_b.path"]).name))
        written = Image.open(run / f"previews/step_{row['_step']:08d}_a_to_b.png")
        sent = np.asarray(Image.open(path), dtype=float)
        assert abs(sent - np.asarray(written, dtype=float)).mean() < 8  # a JPEG of the same picture
    settings = configuration(second)
    for name in (
        "learning_rate",
        "method",
        "data",
        "git_commit",
        "packages",
        "parameters",
        "images",
    ):
        assert name in settings, name
    assert settings["method"]["generator"]["channels"] == 4


def history(records: list[dict]) -> list[dict]:
    return [record["history"]["item"] for record in records if record["type"] == "history"]


def configuration(records: list[dict]) -> dict:
    (run,) = (record["run"] for record in records if record["type"] == "run")
    return run["config"]["update"]


def test_a_failing_server_never_stops_training(tmp_path, monkeypatch, capsys):
    import wandb

    def refuse(**_):
        raise wandb.errors.CommError("no network\nat all")

    monkeypatch.setattr(wandb, "init", refuse)
    logger = WandbRun(LogConfig(wandb="online"), tmp_path, "abc", {})
    assert "no network" in logger.message and "\n" not in logger.message
    logger.log({"x": 1}, 1)
    logger.images({}, {}, 1, 1)
    logger.finish()


def test_a_log_call_that_fails_ends_logging_with_one_note(tmp_path, capsys):
    class Broken:
        def log(self, *_, **__):
            raise RuntimeError("gone")

    logger = WandbRun(LogConfig(wandb="disabled"), tmp_path, "abc", {})
    logger.run = Broken()
    logger.log({"x": 1}, 1)
    logger.log({"x": 1}, 2)
    assert logger._calls.close(5)
    assert capsys.readouterr().out.count("W&B stopped logging (gone)") == 1


def test_online_without_a_key_is_offline_and_asks_nothing(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    logger = WandbRun(LogConfig(wandb="online"), tmp_path, "abc", {})
    assert "offline run abc" in logger.message and "no key for online" in logger.message
    logger.finish()


@pytest.mark.parametrize(
    ("folder", "name"),
    [("monet", "monet"), ("Été à Nîmes", "t-N-mes"), ("../../x", "x"), ("a\nb\0c", "a-b-c"),
     ("x" * 300, "x" * 128), ("...", "run"), ("-rf", "rf")],
)  # fmt: skip
def test_names_are_cleaned_for_the_server(folder, name):
    assert clean_name(folder) == name


def test_nothing_of_the_environment_reaches_a_run_folder(photos, tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    # Random, because code.diff may hold this very file.
    key, password = secrets.token_hex(20), secrets.token_hex(12)
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("DATABASE_PASSWORD", password)
    run = tmp_path / "run"
    words = [word for word in TINY if "wandb" not in word]
    assert call(train, "cyclegan", f"data.root={photos}", f"run={run}", "duration=2 steps", *words,
                "log.wandb=offline") == (0, "")  # fmt: skip
    files = [path for path in run.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        content = path.read_bytes()
        assert key.encode() not in content and password.encode() not in content, path
