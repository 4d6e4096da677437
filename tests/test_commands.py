"""The commands as the shell runs them: one line and exit code 2 for every mistake."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import train
from tests.conftest import TINY, call, write_images

ROOT = Path(train.__file__).parent


def shell(*words: object, **environment: str) -> subprocess.CompletedProcess:
    """Run a script of the project in another process, as a person would."""
    return subprocess.run(
        [sys.executable, str(ROOT / str(words[0])), *map(str, words[1:])],
        capture_output=True, text=True, timeout=120, check=False, cwd=environment.pop("cwd", None),
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def bad(tmp_path, photos):
    """Command lines that cannot work, and what each must be told."""
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
        (["cyclegan", root, run, "learnin_rate=1"], "did you mean learning_rate?"),
        (["cyclegan", root, run, "batch_size=two"], "batch_size: "),
        (["cyclegan", root, run, "data.crop_size=512"], "larger than data.load_size"),
        (["cyclegan", root, run, *TINY, "data.crop_size=18"], "multiple of 4"),
        (
            ["cyclegan", root, run, *TINY, "method.discriminator.layers=5"],
            "too small for a discriminator",
        ),
        (
            ["cyclegan", f"data.root={tmp_path}", run, *TINY, "data.fit=crop"],
            "is smaller than data.crop_size",
        ),
        (["cyclegan", run], "set data.root=FOLDER"),
        (["cyclegan", "data.root=/nowhere", run], "data.root: no such folder"),
        (["cyclegan", f"data.root={tmp_path / 'empty'}", run], "no images in this folder"),
        (
            ["cyclegan", f"data.root={tmp_path / 'broken'}", run, *TINY, "duration=99 steps"],
            "bad.png: not an image",
        ),
        (["cyclegan", root, f"run={tmp_path / 'file'}"], "cannot be made"),
        (["cyclegan", root, f"run={tmp_path / 'file' / 'x'}"], "cannot be made"),
        (["cyclegan", root, f"run={'x' * 5000}"], "run="),
        (["cyclegan", root, run, "runtime.device=cuda:99"], "runtime.device"),
        (["cyclegan", root, run, "runtime.device=gpu"], "runtime.device"),
        (["cyclegan", root, run, "runtime.precision=fp8"], "runtime.precision"),
        (["cyclegan", root, run, "runtime.threads=-1"], "runtime.threads"),
        (["cyclegan", root, run, "data.domains=[a,b,c]", "data.channels=[3]"], "data.root="),
        (["cyclegan", root, run, "duration=200 parsecs"], "duration"),
        (
            ["cyclegan", root, run, "method.generator.upsampling=bilinear"],
            "method.generator.upsampling",
        ),
        (["ciclegan"], "did you mean cyclegan?"),
        (["runs/none/options.yaml"], "no such preset file"),
        (["cyclegan", "demo"], "one preset at a time"),
        ([], "name a preset"),
    ]


def test_every_mistake_is_answered_in_one_line_with_exit_code_2(bad):
    assert len(bad) >= 20
    for words, says in bad:
        code, error = call(train, *words)
        assert (code, says in error, "\n" in error) == (2, True, False), (words, error)


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
    # The fastest of three, so that a busy machine does not decide; half a second for our own files.
    times = [(seconds_of(*mistake), seconds_of(*importing)) for _ in range(3)]
    assert min(t for t, _ in times) < min(t for _, t in times) + 0.5


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


def test_the_three_commands_work_from_another_folder(photos, tmp_path):
    words = ["cyclegan", f"data.root={photos}", "run=r", "duration=2 steps", *TINY]
    assert shell("train.py", *words, cwd=str(tmp_path)).returncode == 0
    assert shell("test.py", "r", cwd=str(tmp_path)).returncode == 0
    done = shell(
        "translate.py", "r", photos / "testA", "out", "direction=a_to_b", cwd=str(tmp_path)
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/080.png").exists() and (tmp_path / "r/test/report.html").exists()
