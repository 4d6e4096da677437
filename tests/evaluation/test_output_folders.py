"""test.py deletes what it wrote and nothing else, follows no link, and is alone in a run."""

import json
import os
import shutil

import pytest

import test as evaluation
from common.run_folder import LOCK, folder_lock
from evaluation.held_out.output_folders import make_empty_folder, record_of, replace_folder
from tests.conftest import call, raises_user_error

WORDS = ("checks=false", "wandb=disabled")


@pytest.fixture
def run(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("test"))
    return folder


@pytest.mark.parametrize("name", ["test", "test/a_to_b", "test/a_to_b.partial"])
def test_a_link_in_the_place_of_a_folder_is_refused_and_its_target_untouched(run, tmp_path, name):
    precious = tmp_path / "precious"
    (precious / "a_to_b").mkdir(parents=True)
    for file in (precious / "work.png", precious / "a_to_b" / "080.png"):
        file.write_text("years of work")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(precious)
    code, error = call(evaluation, run, *WORDS)
    assert code == 2 and "is a link" in error and str(run / name) in error
    assert (precious / "work.png").read_text() == "years of work"
    assert (precious / "a_to_b" / "080.png").read_text() == "years of work"


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_what_is_no_folder_is_refused_before_the_work(run, kind):
    (run / "test").mkdir()
    place = run / "test" / "a_to_b"
    place.touch() if kind == "file" else os.mkfifo(place)
    code, error = call(evaluation, run, *WORDS)
    assert code == 2 and "not a folder" in error and not (run / "test/a_to_b.partial").exists()


def test_files_that_test_did_not_write_are_kept(run):
    assert call(evaluation, run, *WORDS) == (0, "")
    folder = run / "test" / "a_to_b"
    written = json.loads(record_of(folder).read_text())
    assert written == sorted(p.name for p in folder.iterdir()) != []
    (folder / "sub").mkdir()
    for name in ("notes.txt", "favourite.png", "sub/more.png"):
        (folder / name).write_text("mine")
    (folder / "gone.png").write_text("test.py wrote this")
    record_of(folder).write_text(json.dumps([*written, "gone.png"]))
    assert call(evaluation, run, *WORDS) == (0, "")
    for name in ("notes.txt", "favourite.png", "sub/more.png"):
        assert (folder / name).read_text() == "mine"
    assert not (folder / "gone.png").exists()
    assert json.loads(record_of(folder).read_text()) == written


def test_the_pictures_of_an_earlier_version_are_replaced_and_other_files_kept(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        folder.mkdir()
    (new / "a.png").write_text("new")
    for name in ("a.png", "b.png", "notes.txt"):
        (old / name).write_text("old")
    replace_folder(new, old)
    assert {p.name for p in old.iterdir()} == {"a.png", "notes.txt"}
    assert (old / "a.png").read_text() == "new" and not new.exists()
    with raises_user_error():
        (tmp_path / "link").symlink_to(old)
        make_empty_folder(tmp_path / "link")


def test_two_evaluations_of_one_run_do_not_mix(run):
    (run / "test").mkdir()
    with folder_lock(run, run / "test" / LOCK, ""):
        code, error = call(evaluation, run, *WORDS)
    assert code == 2 and "in use by process" in error and "evaluates the run" in error


@pytest.mark.parametrize(
    "line", ["5", "null", '{"loss": 1}', "[" * 100_000, '{"step": 1, "images": {}}', "\udcff",
             '{"step": 1, "images": 1, "cycle_a": ' + "9" * 400 + "}"],
    ids=["number", "null", "no step", "brackets", "a list", "no text", "long"],
)  # fmt: skip
def test_a_damaged_log_line_does_not_cost_the_evaluation(run, line):
    with open(run / "metrics.jsonl", "a", errors="surrogateescape") as file:
        file.write(line + "\n")
    assert call(evaluation, run, *WORDS) == (0, "")
    assert "<svg" in (run / "test" / "report.html").read_text()
