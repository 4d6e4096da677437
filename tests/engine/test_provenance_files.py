"""A run records which code, images and machine it comes from."""

import json
import shutil
import subprocess

import pytest

import train
from data.config import DataConfig
from data.fingerprint import fingerprint_files
from data.folders import find_split
from engine.provenance import code_changes, code_hash, git_commit, provenance
from engine.provenance_files import read_data, read_sessions
from tests.conftest import TINY, call, write_images


def git(folder, *words):
    subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@y", *words],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    (folder / "models").mkdir(parents=True)
    (folder / "models/method.py").write_text("one = 1\n")
    (folder / "README.md").write_text("text\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_a_clean_checkout_has_a_commit_and_no_changes(checkout):
    assert len(git_commit(checkout)) == 40 and code_changes(checkout) == b""


def test_changed_and_new_sources_are_recorded_so_that_git_can_apply_them(checkout, tmp_path):
    git(tmp_path, "clone", "-q", str(checkout), "clone")
    (checkout / "models/method.py").write_text("one = 2\n")
    (checkout / "models/new.py").write_text("two = 2\n")
    (checkout / "models/secret.txt").write_text("not a source\n")
    assert git_commit(checkout).endswith("+changes")
    (tmp_path / "code.diff").write_bytes(code_changes(checkout))
    git(tmp_path / "clone", "apply", str(tmp_path / "code.diff"))
    assert (tmp_path / "clone/models/method.py").read_text() == "one = 2\n"
    assert (tmp_path / "clone/models/new.py").read_text() == "two = 2\n"
    assert not (tmp_path / "clone/models/secret.txt").exists()
    assert code_hash(tmp_path / "clone") == code_hash(checkout)


def test_the_code_has_another_name_only_where_a_source_changes(checkout):
    before = code_hash(checkout)
    (checkout / "README.md").write_text("other text\n")
    assert code_hash(checkout) == before
    (checkout / "models/new.py").write_text("")
    assert code_hash(checkout) != before


def test_a_folder_inside_another_repository_has_no_commit(checkout):
    (checkout / "unpacked").mkdir()
    assert git_commit(checkout / "unpacked") == "unknown"
    assert code_changes(checkout / "unpacked") == b""


def test_the_machine_is_described():
    found = provenance()
    assert found["processor"] and found["cores"] >= 1 and found["packages"]["torch"]
    assert len(found["code"]) == 16


def words(photos, run, *more):
    return ("cyclegan", f"data.root={photos}", f"run={run}", "checkpoint_every=2", *TINY, *more)


def test_a_run_records_the_names_sizes_and_contents_of_every_image(photos, trained):
    data = json.loads((trained / "data.json").read_text())
    config = DataConfig(root=str(photos))
    for split in ("train", "test"):
        assert data["fingerprint"][split] == fingerprint_files(find_split(config, split))
    images = read_data(trained)
    assert {d: len(found) for d, found in images["train"].items()} == {"a": 7, "b": 5}
    assert images["test"]["a"]["080.png"].bytes == (photos / "testA/080.png").stat().st_size
    (session,) = read_sessions(trained)
    assert session["data_fingerprint"] == data["fingerprint"] and session["step"] == 0
    assert session["command"] and session["packages"]["torch"] and session["device"] == "cpu"


def test_a_resumed_run_reports_changed_images_and_keeps_its_first_record(
    tmp_path, capsys, monkeypatch
):
    for name, count in (("trainA", 4), ("trainB", 3)):
        write_images(tmp_path / name, count)
    run = tmp_path / "run"
    from engine.train_step import TrainStep

    real = TrainStep.take_step

    def take_step(self, batch):
        if self.step == 3 and not (run / "again").exists():
            (run / "again").touch()
            raise KeyboardInterrupt
        return real(self, batch)

    monkeypatch.setattr(TrainStep, "take_step", take_step)
    with pytest.raises(KeyboardInterrupt):
        train.main([*words(tmp_path, run, "duration=4 steps")])
    before = (run / "data.json").read_bytes()
    write_images(tmp_path / "trainB", 1, first=1)  # the same image again
    write_images(tmp_path / "trainA", 1, size=(28, 24), first=2)
    capsys.readouterr()
    assert call(train, *words(tmp_path, run, "duration=4 steps")) == (0, "")
    assert "note: 1 train images of a are not those that the run began with (002.png)" in (
        capsys.readouterr().out
    )
    assert (run / "data.json").read_bytes() == before
    first, second = read_sessions(run)
    assert (first["step"], second["step"]) == (0, 2)
    assert first["data_fingerprint"]["train"] != second["data_fingerprint"]["train"]


def test_a_damaged_record_does_not_stop_a_run(photos, tmp_path):
    run = tmp_path / "run"
    assert call(train, *words(photos, run, "duration=2 steps")) == (0, "")
    (run / "data.json").write_text('{"images": [')
    (run / "provenance.json").write_text("[]")
    shutil.rmtree(run / "checkpoints")
    assert call(train, *words(photos, run, "duration=2 steps")) == (0, "")
    assert read_data(run) and len(read_sessions(run)) == 1
