"""Pipes, files of any claimed size, aliases, locked folders: one line, in little time and memory."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

import export
import test as test_command
import train
import translate
from comparison import metrics_table, preference, reproducibility
from data import scenes
from data.values import raw_values
from reliability.command_in_child import run_in_child
from tests.conftest import ROOT, TINY, call

BOMB = "l0: &l0 {x: 1, y: 1}\n" + "".join(
    f"l{n}: &l{n} {{x: *l{n - 1}, y: *l{n - 1}}}\n" for n in range(1, 31)
)


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run", symlinks=True)


def sparse(path: Path, size: int = 200 * 2**30) -> Path:
    """Make a file that claims 200 GB and takes no room."""
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def test_aliases_of_yaml_are_refused_before_they_are_expanded(run, tmp_path):
    (tmp_path / "preset.yaml").write_text(BOMB)
    assert "aliases" in call(train, tmp_path / "preset.yaml")[1]
    with open(run / "options.yaml", "a") as file:
        file.write(BOMB)
    code, error = call(test_command, run, "wandb=disabled")
    assert code == 2 and "aliases" in error


@pytest.mark.parametrize("name", [
    "options.yaml", "metrics.jsonl", "checkpoints/manifest.json", "checkpoints/step_00000008.pt",
    "test/metrics.json",
])  # fmt: skip
def test_a_file_of_a_run_that_claims_200_gigabytes_is_not_read(run, tmp_path, name):
    (run / "test").mkdir(exist_ok=True)
    sparse(run / name)
    results = [
        call(test_command, run, "wandb=disabled", "checks=false"),
        call(metrics_table, run, run),
        call(translate, run, run / "previews", tmp_path / "out", "direction=a_to_b"),
    ]
    for code, error in results:
        assert code in (0, 1, 2) and "\n" not in error


def test_weights_of_a_bundle_that_claim_200_gigabytes_or_are_a_pipe_are_refused(
    run, photos, tmp_path
):
    words = [run, f"out={tmp_path / 'b'}", "direction=a_to_b", "formats=safetensors"]
    assert call(export, *words)[0] == 0
    weights = sparse(tmp_path / "b" / "a_to_b" / "model.safetensors")
    asked = [translate, tmp_path / "b" / "a_to_b", photos / "testA", tmp_path / "out"]
    assert "File too large" in call(*asked)[1]
    weights.unlink()
    os.mkfifo(weights)
    code, error = call(*asked)
    assert code == 2 and "cannot be read" in error


def test_pipes_are_not_waited_for_where_a_file_is_named(run, photos, tmp_path):
    for name in ("x.png", "latest_net_G_A.pth", "table.csv"):
        os.mkfifo(tmp_path / name)
    new = ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'new'}", *TINY]
    for words in (
        [translate, run, tmp_path / "x.png", tmp_path / "out.png", "direction=a_to_b"],
        [translate, tmp_path / "latest_net_G_A.pth", photos / "testA", tmp_path / "out"],
        [train, *new, f"init_from={tmp_path / 'latest_net_G_A.pth'}"],
        [train, *new, "data.validation=0.5", f"data.group={tmp_path / 'table.csv'}:g"],
    ):
        code, error = call(*words)
        assert code == 2 and error and "\n" not in error, words


@pytest.mark.parametrize("pattern", ["(" * 3000 + ")" * 3000, "a{99999999999}", "("])
def test_a_pattern_that_python_cannot_compile_is_refused(photos, tmp_path, pattern):
    words = ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'new'}", *TINY]
    code, error = call(train, *words, "data.validation=0.5", f"data.group={json.dumps(pattern)}")
    assert code == 2 and "not a regular expression" in error


@pytest.mark.parametrize("figure", ["x", [1], 10**400, True, {"a": 1}], ids=str)
def test_figures_that_are_no_numbers_are_damage(run, tmp_path, figure):
    assert call(test_command, run, "wandb=disabled", "checks=false")[0] == 0
    path = run / "test" / "metrics.json"
    content = json.loads(path.read_text())
    content["directions"]["a_to_b"]["cycle_psnr"] = figure
    path.write_text(json.dumps(content))
    code, error = call(metrics_table, run, run)
    assert code == 2 and "damaged" in error


@pytest.mark.parametrize("change", [[1], {"root": 5}, {"domains": "ab"}, {"test": 3}], ids=str)
def test_data_options_of_another_type_are_refused_by_the_page(run, trained, tmp_path, change):
    for each in (run, trained):
        assert call(test_command, each, "wandb=disabled", "checks=false")[0] == 0
    path = run / "test" / "metrics.json"
    content = json.loads(path.read_text())
    content["data"] = change if isinstance(change, list) else content["data"] | change
    path.write_text(json.dumps(content))
    code, error = call(preference, run, trained, f"out={tmp_path / 'page.html'}")
    assert code == 2 and "another version" in error


def test_lines_of_a_log_that_no_number_can_hold_do_not_stop_a_comparison(run, trained):
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 9, "adversarial_b": 10**400}) + "\n")
        file.write(json.dumps({"step": 10**400, "cycle_a": 1.0}) + "\n" + "[" * 100_000 + "\n")
    assert call(reproducibility, run, trained)[0] in (0, 1)


def test_folders_that_the_software_did_not_make_are_not_deleted(tmp_path):
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial" / "thesis.txt").write_text("years of work")
    scenes.generate("season", tmp_path / "s", train=1, test=1, size=16)
    assert (tmp_path / "s.partial" / "thesis.txt").exists()
    left = tmp_path / ".s.abcdefgh.partial"
    left.mkdir()
    shutil.rmtree(tmp_path / "s")
    scenes.generate("season", tmp_path / "s", train=1, test=1, size=16)
    assert left.exists()  # another command may be at work
    os.utime(left, (0, 0))
    shutil.rmtree(tmp_path / "s")
    scenes.generate("season", tmp_path / "s", train=1, test=1, size=16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "s.partial"]


@pytest.mark.parametrize("word", ["size=30000", "train=1000000000000", "test=10000000"])
def test_scenes_that_fill_the_disk_or_the_memory_are_refused(tmp_path, word):
    code, error = call(scenes, "season", tmp_path / "s", word)
    assert code == 2 and "from" in error and not (tmp_path / "s").exists()


def test_a_tiff_of_too_many_pages_or_of_pictures_in_pictures_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_values, "MAX_PAGES", 3)
    tifffile.imwrite(tmp_path / "p.tif", np.zeros((5, 8, 8), np.uint16), photometric="minisblack")
    with pytest.raises(raw_values.BadImage, match="more than 3 pages"):
        raw_values.file_format(tmp_path / "p.tif")
    pixels = np.zeros((2, 16, 16), np.uint8)
    tifffile.imwrite(tmp_path / "c.tif", pixels, planarconfig="separate", compression="png",
                     photometric="minisblack")  # fmt: skip
    with pytest.raises(raw_values.BadImage, match="compression PNG is not read"):
        raw_values.file_format(tmp_path / "c.tif")


def test_a_path_that_the_system_refuses_is_one_line_and_other_errors_are_not_hidden():
    def refused(_):
        raise PermissionError(errno.EACCES, "Permission denied", "/home/x\x1b[2J/run")

    def bug(_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    result = run_in_child(refused, [])
    assert result.code == 2 and result.errors.count("\n") == 1
    assert result.errors.startswith(r"error: /home/x\x1b[2J/run: Permission denied")
    assert "Traceback" in run_in_child(bug, []).errors


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a user whom no folder is closed to")
def test_a_folder_that_is_closed_is_one_line(run, photos, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    shutil.move(run, closed / "run")
    closed.chmod(0)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"]
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    for words in (
        ["test.py", closed / "run", "wandb=disabled"],
        ["train.py", "cyclegan", f"data.root={closed / 'd'}", f"run={tmp_path / 'new'}"],
    ):
        done = subprocess.run(
            [*drop, sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert "Permission denied" in done.stderr and str(closed) in done.stderr
    closed.chmod(0o700)
