"""The commands as the shell runs them: one line and exit code 2 for every mistake."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import test
import train
from common.run_folder import run_lock
from tests.conftest import ROOT, TINY, call, refusal, write_images


def shell(*words: object, **environment: str) -> subprocess.CompletedProcess:
    """Run a script of the project in another process, as a shell does."""
    return subprocess.run(
        [sys.executable, str(ROOT / str(words[0])), *map(str, words[1:])],
        capture_output=True, text=True, errors="replace", timeout=120, check=False,
        cwd=environment.pop("cwd", None),
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def bad(tmp_path, photos):
    """Wrong command lines of train.py, with the option, the path and a part of each error."""
    write_images(tmp_path / "trainA", 1, size=(12, 12))
    write_images(tmp_path / "trainB", 1, size=(24, 24))
    (tmp_path / "empty/trainA").mkdir(parents=True)
    (tmp_path / "empty/trainB").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken/trainA").mkdir(parents=True)
    (tmp_path / "broken/trainB").mkdir()
    for domain in "AB":
        Image.new("RGB", (20, 20)).save(tmp_path / f"broken/train{domain}/good.png")
        (tmp_path / f"broken/train{domain}/bad.png").write_bytes(b"x")
    root = f"data.root={photos}"
    run = f"run={tmp_path / 'run'}"
    return [
        (["cyclegan", root, run, "learnin_rate=1"], "learnin_rate", "", "mean learning_rate?"),
        (["cyclegan", root, run, "batch_size=two"], "batch_size", "", "two"),
        (["cyclegan", root, run, "data.crop_size=512"], "data.crop_size", "", "data.load_size"),
        (["cyclegan", root, run, *TINY, "data.crop_size=18"], "data.crop_size", "", "18"),
        (["cyclegan", root, run, *TINY, "method.discriminator.layers=5"], "data.crop_size", "",
         "method.discriminator.layers"),
        (["cyclegan", f"data.root={tmp_path}", run, *TINY, "data.fit=crop"], "data.crop_size",
         tmp_path / "trainA/000.png", "12x12"),
        (["cyclegan", run], "data.root", "", "data.root=FOLDER"),
        (["cyclegan", "data.root=/nowhere", run], "data.root", "/nowhere", "no such folder"),
        (["cyclegan", f"data.root={tmp_path / 'empty'}", run], "", tmp_path / "empty/trainA", ""),
        (["cyclegan", f"data.root={tmp_path / 'broken'}", run, *TINY, "duration=99 steps"], "",
         tmp_path / "broken/trainA/bad.png", "not an image"),
        (["cyclegan", root, f"run={tmp_path / 'file'}"], "run", tmp_path / "file", ""),
        (["cyclegan", root, f"run={tmp_path / 'file' / 'x'}"], "run", tmp_path / "file/x", ""),
        (["cyclegan", root, f"run={'x' * 5000}"], "run", "x" * 5000, "too long"),
        (["cyclegan", root, run, "runtime.device=cuda:99"], "runtime.device", "", "cuda:99"),
        (["cyclegan", root, run, "runtime.device=gpu"], "runtime.device", "", "gpu"),
        (["cyclegan", root, run, "runtime.precision=fp8"], "runtime.precision", "", "fp8"),
        (["cyclegan", root, run, "runtime.threads=-1"], "runtime.threads", "", "-1"),
        (["cyclegan", root, run, "data.domains=[a,b,c]", "data.channels=[3]"], "data.root",
         photos, "trainC"),
        (["cyclegan", root, run, "duration=200 parsecs"], "duration", "", "'200 parsecs'"),
        (["cyclegan", root, run, *TINY, "duration=2 steps", "warm_up=2 epochs"], "warm_up", "",
         "duration=2 steps"),
        (["cyclegan", root, run, "method.generator.upsampling=bilinear"],
         "method.generator.upsampling", "", "bilinear"),
        (["ciclegan"], "", "", "did you mean cyclegan?"),
        (["runs/none/options.yaml"], "", "runs/none/options.yaml", "no such preset file"),
        (["cyclegan", "demo"], "", "", "one preset at a time"),
        ([], "", "", "name a preset"),
    ]  # fmt: skip


def test_every_mistake_is_answered_in_one_line_with_exit_code_2(bad):
    assert len(bad) >= 20
    for words, option, path, part in bad:
        code, line = call(train, *words)
        assert (code, part in line, "\n" in line) == (2, True, False), (words, line)
        error = refusal(train, *words)
        assert (error.option, error.path) == (option, str(path)), (words, line)


def seconds_of(*command: str) -> float:
    began = time.monotonic()
    subprocess.run(command, capture_output=True, check=False, timeout=120)
    return time.monotonic() - began


def test_the_shell_sees_one_line_code_2_and_no_longer_a_wait_than_for_importing_torch(
    photos, tmp_path
):
    importing = [sys.executable, "-c", "import torch"]
    mistake = [sys.executable, str(ROOT / "train.py"), "cyclegan", f"data.root={photos}", "lr=1"]
    done = subprocess.run(mistake, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: unknown option 'lr'") and done.stderr.count("\n") == 1
    # The fastest of several, so that a busy machine does not matter; 0.5 s for our own imports.
    ours, torchs = [], []
    while len(ours) < 12 and (not ours or min(ours) >= min(torchs) + 0.5):
        ours.append(seconds_of(*mistake))
        torchs.append(seconds_of(*importing))
    assert min(ours) < min(torchs) + 0.5


@pytest.mark.parametrize("command", [["train.py"], ["test.py"], ["-m", "data.doctor"]])
def test_every_command_prints_the_version_that_the_citation_names(command):
    done = subprocess.run(
        [sys.executable, *command, "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {done.stdout.removeprefix('Diptych ').strip()}\n" in citation
    assert done.returncode == 0 and done.stderr == ""


def test_list_into_a_closed_pipe_is_quiet():
    # head closes before the list is printed: python is still importing.
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {ROOT / 'train.py'} --list | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_no_network_no_home_and_a_plain_locale_do_not_matter(photos, tmp_path):
    words = [
        "cyclegan",
        f"data.root={photos}",
        f"run={tmp_path / 'run'}",
        "duration=2 steps",
        *TINY,
    ]
    environment = {
        "LC_ALL": "C", "TZ": "UTC-13", "HOME": "/nonexistent", "https_proxy": "http://127.0.0.1:9",
        "WANDB_MODE": "offline",
    }  # fmt: skip
    done = shell("train.py", *[word for word in words if "wandb" not in word], **environment)
    assert done.returncode == 0, done.stderr
    assert "finished: 2 steps" in done.stdout and done.stderr == ""
    words[2] = f"run={tmp_path / 'plain'}"
    assert call(train, *words) == (0, "")
    rows = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("run", "plain")
    ]
    for one, other in zip(*rows, strict=True):
        assert {**one, "seconds": 0} == pytest.approx({**other, "seconds": 0}, rel=1e-5)


def test_a_read_only_place_is_answered_before_any_training(photos, tmp_path):
    place = tmp_path / "place"
    place.mkdir(mode=0o555)
    if os.getuid() == 0:  # no mode binds root, but the kernel's own folders do
        place = Path("/sys/kernel")
    words = ("cyclegan", f"data.root={photos}", f"run={place / 'run'}", *TINY)
    assert call(train, *words)[0] == 2
    error = refusal(train, *words)
    assert (error.option, error.path) == ("run", str(place / "run"))


def test_the_three_commands_work_from_another_folder(photos, tmp_path):
    words = ["cyclegan", f"data.root={photos}", "run=r", "duration=2 steps", *TINY]
    assert shell("train.py", *words, cwd=str(tmp_path)).returncode == 0
    assert shell("test.py", "r", cwd=str(tmp_path)).returncode == 0
    done = shell(
        "translate.py", "r", photos / "testA", "out", "direction=a_to_b", cwd=str(tmp_path)
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/080.png").exists() and (tmp_path / "r/test/report.html").exists()


def test_a_second_run_is_refused_in_the_shell_within_two_seconds_of_importing_torch(
    photos, tmp_path, record_property
):
    run = tmp_path / "run"
    run.mkdir()
    words = ["cyclegan", f"data.root={photos}", f"run={run}", *TINY]
    with run_lock(run):
        began = time.monotonic()
        done = shell("train.py", *words)
        seconds = time.monotonic() - began
    extra = seconds - min(seconds_of(sys.executable, "-c", "import torch") for _ in range(2))
    record_property("figure", f"{extra:.1f} s in addition to importing torch")
    assert done.returncode == 2 and f"in use by process {os.getpid()}" in done.stderr
    assert extra < 2


NAMES = [b"two words.png", b"-rf.png", b"new\nline.png", b"UPPER.PNG", b"a.jpg", b"a.png",
         b"caf\xe9.png", b"x" * 250 + b".png", "\u6c34.png".encode(), b"%s {0}.png", b"'\".png"]  # fmt: skip


def test_strange_names_go_through_evaluation(trained, tmp_path):
    for letter in "AB":
        (tmp_path / f"test{letter}").mkdir()
        for number, name in enumerate(NAMES):
            file = os.path.join(os.fsencode(tmp_path / f"test{letter}"), name)
            kind = "JPEG" if name.endswith(b"jpg") else "PNG"
            with open(file, "wb") as stream:
                Image.new("RGB", (24, 20), (number * 20, 90, 30)).save(stream, kind)
    run = shutil.copytree(trained, tmp_path / "run")
    answer = call(test, run, f"data.root={tmp_path}", "data.fit=stretch", "data.load_size=20")
    assert answer == (0, "")
    for direction in ("a_to_b", "b_to_a"):
        outputs = os.listdir(os.fsencode(run / "test" / direction))
        both = {b"a.jpg": b"a.jpg.png", b"a.png": b"a.png.png"}  # not one file for two images
        assert sorted(outputs) == sorted(both.get(name, name) for name in NAMES)
    report = (run / "test/report.html").read_text(encoding="utf-8")
    assert "two words.png" in report and "\u6c34" in report


def test_an_emoji_in_a_name_is_written_and_printed_in_every_locale(tmp_path):
    for number, name in enumerate(("trainA", "trainB", "testA", "testB")):
        write_images(tmp_path / "d" / name, 2, first=10 * number)
    (tmp_path / "d" / "testA" / "😀 é.png").write_text("no picture")
    Image.new("RGB", (24, 20)).save(tmp_path / "d" / "trainA" / "🎨.png")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    latin = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "iso-8859-1"}
    words = ["cyclegan", "data.root=d", "run=run", "duration=1 steps", *TINY]
    done = shell("train.py", *words, cwd=str(tmp_path), **ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    images = json.loads((tmp_path / "run" / "data.json").read_text("utf-8"))["images"]
    assert "🎨.png" in images["train"]["a"]
    done = shell("test.py", "run", "checks=false", cwd=str(tmp_path), **latin)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "skipped:" in done.stderr
