"""Every command that the software prints is run as it was printed; only its networks are tiny."""

import html
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import test as evaluation
import train
import translate
from comparison import metrics_table
from data import download
from data.doctor import __main__ as doctor
from engine.tracking import wandb_run
from options.load import train_options
from tests.conftest import ROOT, TINY, call, write_images
from training import cost_estimate
from training.cost_estimate import StepCost

COMMANDS = {"train.py": train, "test.py": evaluation, "translate.py": translate}
MODULES = {"data.doctor": doctor, "comparison.metrics_table": metrics_table}
SMALL = [*TINY, "duration=1 steps", "log.every=1"]
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b")  # FOLDER, for example


def printed_commands(text: str) -> list[list[str]]:
    """Return the words of every `python ...` in a text; those with a placeholder are left out."""
    found = []
    for line in text.splitlines():
        if match := re.search(r"(?<![\w/.])python (-m )?[\w.]+.*", line):
            words = shlex.split(match[0].partition("; ")[0])
            if not any(PLACEHOLDER.fullmatch(word.partition("=")[2] or word) for word in words):
                found.append(words)
    return found


def run_as_printed(words: list[str], tmp_path: Path) -> None:
    """Run a command in this process; networks and duration of training are made tiny."""
    assert words[0] == "python"
    if words[1] == "-m":
        module, words = MODULES[words[2]], words[3:]
        more = [f"out={tmp_path / 'doctor'}"] if module is doctor else []
    else:
        module, words = COMMANDS[words[1]], words[2:]
        more = SMALL if module is train else ["runtime.device=cpu"]
        more = [*more, "wandb=disabled", "checks=false"] if module is evaluation else more
    code, error = call(module, *words, *more)
    assert code == 0, error


@pytest.mark.parametrize(
    "names",
    [
        ("trainA", "trainB"),
        ("photos", "paintings"),
        ("train/01", "train/no"),
        ("my photos", "b_to_c"),
    ],
    ids=str,
)
def test_the_doctors_command_runs(names, tmp_path, monkeypatch, capsys):
    data = tmp_path / "my data"
    for number, name in enumerate(names):
        write_images(data / name, 12, (30, 24), first=100 * number)
    monkeypatch.chdir(tmp_path)
    assert call(doctor, data, "out=report", "workers=1") == (0, "")
    command, *shorter = [c for c in printed_commands(capsys.readouterr().out) if "train.py" in c]
    assert [bool(shorter)] == ["/" not in names[0] and "A" not in names[0]]
    for words in shorter:  # the command with two folders alone
        run_as_printed(words, tmp_path)
        capsys.readouterr()
    assert any(word.startswith("run=") for word in command) and "data.validation=0.1" in command
    run_as_printed(command, tmp_path)
    finished = printed_commands(capsys.readouterr().out)
    assert {words[1] for words in finished} >= {"test.py", "translate.py"}
    for words in finished:
        run_as_printed(words, tmp_path)


def test_the_commands_of_two_folders_run(tmp_path, monkeypatch, capsys):
    write_images(tmp_path / "photos", 12)
    write_images(tmp_path / "my paintings", 11, first=50)
    monkeypatch.chdir(tmp_path)
    assert call(train, "photos", tmp_path / "my paintings/", *SMALL) == (0, "")
    commands = printed_commands(capsys.readouterr().out)
    kinds = [words[1] if words[1] != "-m" else words[2] for words in commands]
    assert {"train.py", "data.doctor", "test.py", "translate.py"} <= set(kinds)
    for words in commands:
        run_as_printed(words, tmp_path)


def test_the_commands_of_a_run_without_held_out_images_run(tmp_path, monkeypatch, capsys):
    for number, name in enumerate(("trainA", "trainB")):
        write_images(tmp_path / name, 6, first=10 * number)
    run = tmp_path / "run"
    words = ["cyclegan", f"data.root={tmp_path}", f"run={run}", *SMALL]
    assert call(train, *words) == (0, "")
    out = capsys.readouterr().out
    assert "data.validation=0.1 holds out a tenth" in out
    assert f"python test.py {run} data.test.a=FOLDER data.test.b=FOLDER" in out
    for command in printed_commands(out):
        run_as_printed(command, tmp_path)
    code, error = call(evaluation, run)
    assert code == 2 and "data.test.a=FOLDER data.test.b=FOLDER" in error


def test_the_command_that_compares_runs_is_printed_whole(trained, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("test"))
    code, error = call(metrics_table, run, run)
    (command,) = printed_commands(error)
    assert code == 2 and command == ["python", "test.py", str(run)]
    run_as_printed(command, tmp_path)
    assert call(metrics_table, run, run) == (0, "")


def test_the_settings_of_a_plan_can_be_used(photos, tmp_path, monkeypatch, capsys):
    cost = StepCost(seconds=0.1, peak=10**9, parameters=9)
    monkeypatch.setattr(cost_estimate, "measure_in_subprocess", lambda _: cost)
    words = ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'r'}", *TINY]
    assert call(train, *words, "plan=true", "budget=30min") == (0, "")
    lines = capsys.readouterr().out.splitlines()
    (budget,) = [line for line in lines if line.startswith("in 30min: ")]
    settings = shlex.split(budget.removeprefix("in 30min: "))
    assert [word.partition("=")[0] for word in settings] == ["duration", "decay_after"]
    assert train_options([*words, *settings]) is not None
    variants = [line.split("  ")[-1].split(": ")[0] for line in lines if "runtime." in line]
    assert variants and all(train_options([*words, *v.split()]) for v in variants)


def test_the_report_repeats_its_run(trained, tmp_path, monkeypatch, capsys):
    run = tmp_path / "my run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("test"))
    assert call(evaluation, run, "wandb=disabled", "checks=false") == (0, "")
    page = html.unescape((run / "test" / "report.html").read_text(encoding="utf-8"))
    (command,) = printed_commands(re.sub(r"<[^>]*>", "\n", page))
    monkeypatch.chdir(tmp_path)
    run_as_printed(command, tmp_path)
    assert (tmp_path / "runs" / "again" / "checkpoints").is_dir()


def test_a_downloads_command_is_printed_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "download", lambda *_: "0" * 64)
    out = tmp_path / "my data"
    download.main(["horse2zebra", str(out)])
    (command,) = printed_commands(capsys.readouterr().out)
    options = train_options(command[2:])
    assert options is not None and options.data.root == str(out)


def test_what_wandb_sync_is_given_is_one_word_or_a_pattern(tmp_path):
    parts = [tmp_path / "my run" / "wandb" / f"offline-run-{n}-abc" for n in (1, 2)]
    for part in parts:
        (part / "files").mkdir(parents=True)
        line = wandb_run._offline_folders(str(part / "files"))
        done = subprocess.run(
            ["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True
        )
        known = parts[: parts.index(part) + 1]
        assert done.stdout.splitlines() == [str(each) for each in known]


def test_help_and_list_run_as_the_errors_say():
    done = subprocess.run(
        [sys.executable, "train.py"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    (command,) = printed_commands(done.stderr)
    assert done.returncode == 2 and command[1:] == ["train.py", "demo"]
    assert train_options(command[2:]) is not None
