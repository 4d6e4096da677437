"""Unusual data sets: bad images that are left out, very few images, and unequal numbers."""

import json

import pytest

import train
from data import bad_images as bad_images_module
from engine.checkpoint import Checkpoints
from tests.conftest import TINY, call, refusal, write_images


def words(root, run, *more):
    return ["cyclegan", f"data.root={root}", f"run={run}", "duration=4 steps", "checkpoint_every=2",
            *TINY, *more]  # fmt: skip


def broken_set(folder, good: int, bad: int):
    for letter in "AB":
        write_images(folder / f"train{letter}", good, size=(20, 20))
    for number in range(bad):
        (folder / f"trainA/bad{number}.png").write_bytes(b"x" * number)
    return folder


def test_one_bad_image_is_an_error_or_left_out_as_asked(tmp_path):
    root, run = broken_set(tmp_path, 3, 1), tmp_path / "run"
    error = refusal(train, *words(root, run, "duration=20 steps"))
    assert error.path == str(root / "trainA/bad0.png")
    assert call(train, *words(root, tmp_path / "two", "data.bad_images=skip")) == (0, "")
    skipped = json.loads((tmp_path / "two/skipped.json").read_text())
    assert [name.rpartition("/")[2] for name in skipped] == ["bad0.png"]
    alone = broken_set(tmp_path / "alone", 3, 0)
    assert call(train, *words(alone, tmp_path / "three")) == (0, "")
    one, other = (
        Checkpoints(tmp_path / name / "checkpoints").load_latest()["method"]
        for name in ("two", "three")
    )
    name = "generator_ab.encoder.1.weight"
    assert (one[name] == other[name]).all()  # as if the bad image had never existed


def test_a_run_goes_on_with_the_images_it_began_with(tmp_path):
    root, run = broken_set(tmp_path, 3, 1), tmp_path / "run"
    assert call(train, *words(root, run, "data.bad_images=skip")) == (0, "")
    before = (run / "skipped.json").read_text()
    (root / "trainA/bad0.png").unlink()
    write_images(root / "trainA", 1, size=(20, 20), first=70)
    (root / "trainA/070.png").rename(root / "trainA/bad0.png")  # replaced by a good image
    assert call(train, *words(root, run, "data.bad_images=skip")) == (0, "")
    assert (run / "skipped.json").read_text() == before


def test_more_than_one_in_a_hundred_is_no_accident(tmp_path):
    root = broken_set(tmp_path, 3, 2)
    error = refusal(train, *words(root, tmp_path / "run", "data.bad_images=skip"))
    assert (error.option, error.path) == ("data.bad_images", str(root / "trainA/bad0.png"))
    assert "2 of 5" in str(error)
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_damaged_record_is_named(tmp_path):
    root, run = broken_set(tmp_path, 3, 1), tmp_path / "run"
    assert call(train, *words(root, run, "data.bad_images=skip")) == (0, "")
    (run / "skipped.json").write_text("[1")
    error = refusal(train, *words(root, run, "data.bad_images=skip"))
    assert error.path == str(run / "skipped.json")


def test_one_image_against_many_trains_an_epoch_of_the_many(tmp_path):
    write_images(tmp_path / "trainA", 1, size=(20, 20))
    write_images(tmp_path / "trainB", 60, size=(20, 20), first=9)
    words = [
        "cyclegan",
        f"data.root={tmp_path}",
        f"run={tmp_path / 'run'}",
        "duration=1 epochs",
        *TINY,
    ]
    assert call(train, *words) == (0, "")
    assert Checkpoints(tmp_path / "run/checkpoints").load_latest()["step"] == 60


def test_validation_images_and_small_images_are_checked_too(tmp_path):
    root = broken_set(tmp_path, 9, 1)
    more = ("data.bad_images=skip", "data.validation=0.5", "validation_images=9")
    assert call(train, *words(root, tmp_path / "one", *more)) == (0, "")
    found = [
        json.loads((tmp_path / f"one/skipped{x}.json").read_text()) for x in ("", "_validation")
    ]
    assert sum(map(len, found)) == 1
    write_images(root / "trainB", 1, size=(8, 8), first=90)  # smaller than the crop
    assert call(train, *words(root, tmp_path / "two", "data.bad_images=skip", "data.fit=crop")) == (
        0,
        "",
    )
    names = [n.rpartition("/")[2] for n in json.loads((tmp_path / "two/skipped.json").read_text())]
    assert names == ["bad0.png", "090.png"]


def test_a_domain_without_a_usable_image_is_refused(tmp_path):
    root = broken_set(tmp_path, 1, 1)
    (root / "trainA/000.png").unlink()
    error = refusal(train, *words(root, tmp_path / "run", "data.bad_images=skip"))
    assert error.option == "data.train.a" and "a: no image can be read" in str(error)


def test_other_data_are_checked_again(tmp_path):
    good, broken = broken_set(tmp_path / "x", 3, 0), broken_set(tmp_path / "y", 3, 1)
    run = tmp_path / "run"
    code, _ = call(train, *words(good, run, "data.bad_images=skip", f"init_from={good}"))
    assert code == 2 and (run / "skipped.json").read_text() == "{}\n"
    assert call(train, *words(broken, run, "data.bad_images=skip")) == (0, "")
    assert "bad0.png" in (run / "skipped.json").read_text()


@pytest.mark.parametrize("bad_images", ["error", "skip"])
def test_a_folder_without_a_readable_image_is_refused_before_its_files_are_hashed(
    tmp_path, monkeypatch, bad_images
):
    root = tmp_path
    write_images(root / "trainA", 3, size=(20, 20))
    (root / "trainB").mkdir()
    for number in range(40):
        (root / f"trainB/{number:03}.png").write_bytes(b"")
    read = []
    header = bad_images_module.image_size
    monkeypatch.setattr(
        bad_images_module, "image_size", lambda path: read.append(path) or header(path)
    )
    error = refusal(train, *words(root, tmp_path / "run", f"data.bad_images={bad_images}"))
    assert error.path == str(root / "trainB/000.png") and error.option == "data.train.b"
    assert "none of 8 images" in str(error) and "python -m data.doctor" in str(error)
    assert len(read) <= 16 and not (tmp_path / "run").exists()
