"""A folder of images in, everything worth knowing before training out, and an exit code."""

import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data.doctor.__main__ as doctor
from common.errors import UserError
from data.config import DataConfig
from data.doctor.findings import KINDS, Diagnosis, diagnose
from data.doctor.layout import find_sets, shown
from data.doctor.quick_check import quick_check
from data.folders import find_split, folder_of
from data.reading import BadImage, read_image
from tests.conftest import PYTHON, ROOT, call, write_images

SHARED = ROOT.parent / "shared/images"


def examined(root: Path) -> Diagnosis:
    """Return what the doctor says of a folder, read in one process."""
    sets = find_sets(root)
    seen = iter(doctor.read_all([file for each in sets for file in each.files], 1))
    return diagnose(root, sets, [[next(seen) for _ in each.files] for each in sets])


def found(diagnosis: Diagnosis, name: str) -> list[set[str]]:
    """Return the names of the files of each entry of a finding."""
    entries = (f.entries for f in diagnosis.findings if f.name == name)
    return [{file.name for file in entry.files} for group in entries for entry in group]


def advice(diagnosis: Diagnosis) -> dict[str, str]:
    return dict(each.option.split("=", 1) for each in diagnosis.recommendations)


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    """A data set without fault: 300 images of 128 pixels in each training folder."""
    root = tmp_path_factory.mktemp("sound")
    for number, (name, count) in enumerate(
        (("trainA", 300), ("trainB", 300), ("testA", 3), ("testB", 3))
    ):
        write_images(root / name, count, (128, 128), 1000 * number)
    return root


def test_a_sound_set_gets_no_remark_and_the_command_trains_on_it(sound):
    diagnosis = examined(sound)
    assert diagnosis.findings == [] and diagnosis.usable
    assert diagnosis.command.startswith(f"python train.py cyclegan data.root={sound} ")
    assert "data.load_size=143 data.crop_size=128" in diagnosis.command


@pytest.fixture
def small(photos, tmp_path) -> Path:
    shutil.copytree(photos, tmp_path / "set")
    return tmp_path / "set"


def test_copies_are_told_by_what_they_cross(small):
    shutil.copy(small / "trainA/000.png", small / "trainA/again.png")
    shutil.copy(small / "trainA/001.png", small / "testA/leak.png")
    with Image.open(small / "trainA/002.png") as image:
        image.convert("RGB").save(small / "trainB/both.jpg", quality=90)
    diagnosis = examined(small)
    assert found(diagnosis, "in_split") == [{"000.png", "again.png"}]
    assert found(diagnosis, "across_splits") == [{"001.png", "leak.png"}]
    assert found(diagnosis, "across_domains") == [{"002.png", "both.jpg"}]


def test_pictures_of_one_colour_are_copies_only_where_their_bytes_are(tmp_path):
    for number in range(9):
        image = Image.new("RGB", (64, 64), (90 + number, 130, 200))
        image.save(tmp_path / f"{number}.png")
    shutil.copy(tmp_path / "3.png", tmp_path / "copy.png")
    diagnosis = examined(tmp_path)
    assert found(diagnosis, "in_split") == [{"3.png", "copy.png"}]
    assert len(found(diagnosis, "constant")) == 10


def test_small_and_few_images_and_missing_halves_are_told(small):
    shutil.rmtree(small / "testB")
    write_images(small / "trainA", 9, (400, 300), 500)
    write_images(small / "trainB", 9, (400, 300), 600)
    names = {finding.name for finding in examined(small).findings}
    assert {"few", "no_test", "small", "sizes"} <= names


def test_files_that_are_no_images_are_told_and_hidden_ones_are_not(small):
    (small / "trainA/notes.txt").write_text("x")
    (small / "trainA/.DS_Store").write_text("x")
    os.symlink("nowhere.png", small / "trainA/broken.png")
    os.mkfifo(small / "trainA/pipe.png")
    diagnosis = examined(small)
    assert sorted(map(sorted, found(diagnosis, "passed_over"))) == [
        ["broken.png"], ["notes.txt"], ["pipe.png"],
    ]  # fmt: skip
    assert diagnosis.usable


def test_a_gap_of_colours_is_measured_and_lowers_the_identity_loss(tmp_path):
    for folder, shift in (("trainA", 0), ("trainB", 70)):
        (tmp_path / folder).mkdir()
        for number in range(5):
            noise = np.random.default_rng(number + shift).integers(60, 120, (32, 32, 3))
            Image.fromarray((noise + np.array([shift, 0, 0])).astype(np.uint8)).save(
                tmp_path / folder / f"{number}.png"
            )
    diagnosis = examined(tmp_path)
    assert diagnosis.gaps[0].mean == pytest.approx([70, 0, 0], abs=2)
    assert advice(diagnosis)["method.identity_weight"] == "0.1"
    assert "colours" in {finding.name for finding in diagnosis.findings}


def test_domains_of_other_channels_are_trained_with_what_they_hold(tmp_path):
    write_images(tmp_path / "trainB", 4)
    (tmp_path / "trainA").mkdir()
    for file in (tmp_path / "trainB").iterdir():
        with Image.open(file) as image:
            image.convert("L").rotate(90, expand=True).save(tmp_path / "trainA" / file.name)
    options = advice(examined(tmp_path))
    assert options["data.channels"] == "[1,3]" and options["method.identity_weight"] == "0"


def test_long_and_large_images_keep_their_shape_and_are_cached(tmp_path):
    for folder in ("trainA", "trainB"):
        write_images(tmp_path / folder, 2, (1500, 900), 7 if folder == "trainA" else 70)
    options = advice(examined(tmp_path))
    assert options["data.fit"] == "short_side" and options["data.load_size"] == "286"
    assert options["data.disk_cache"].startswith("cache/")


@pytest.mark.parametrize(
    "names",
    [("trainA", "trainB"), ("train/A", "train/B"), ("train_A", "train_B"), ("train/x", "train/y")],
)
def test_the_layouts_are_those_of_training(tmp_path, names):
    for number, name in enumerate(names):
        write_images(tmp_path / name, 2, first=10 * number)
    sets = find_sets(tmp_path)
    domains = [each.domain for each in sets]
    assert [each.folder for each in sets] == [
        folder_of(DataConfig(root=str(tmp_path), domains=domains), "train", domain)
        for domain in domains
    ]


def test_domains_whose_names_training_refuses_are_given_by_folder(tmp_path):
    for name in ("my photos", "b_to_c"):
        write_images(tmp_path / "train" / name, 2, first=len(name))
    command = examined(tmp_path).command
    assert f"'data.train.my-photos={tmp_path}/train/my photos'" in command
    assert "'data.domains=[b-c,my-photos]'" in command
    DataConfig(domains=["b-c", "my-photos"])


def test_the_command_writes_its_three_files_and_says_what_is_wrong(small, tmp_path, capsys):
    (small / "trainA/bad<b>.png").write_text("no image")
    out = tmp_path / "out"
    assert call(doctor, small, f"out={out}", "workers=1") == (1, "")
    said = capsys.readouterr()
    assert "1 unreadable: trainA/bad<b>.png (not an image that can be read)" in said.out
    assert "reading 18 images" in said.err
    assert sorted(file.name for file in out.iterdir()) == [
        "contact_sheet.jpg", "doctor.html", "doctor.json",
    ]  # fmt: skip
    record = json.loads((out / "doctor.json").read_text())
    assert len(record["files"]) == 18 and record["findings"][0]["entries"][0]["files"] == [
        str(small / "trainA/bad<b>.png")
    ]
    page = (out / "doctor.html").read_text()
    assert "bad&lt;b&gt;.png" in page and "<b>.png" not in page
    assert not re.search(r'(src|href)="(?!data:)', page) and "$" not in page
    with Image.open(out / "contact_sheet.jpg") as sheet:
        assert sheet.width > 1000 and np.asarray(sheet).std() > 10


def test_what_cannot_be_used_is_what_training_refuses(small):
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    (small / "trainA/cut.png").write_bytes(whole.getvalue()[:2000])
    (small / "trainB/empty.jpg").write_bytes(b"")
    refused = {file.path for entries in examined(small).examined for file in entries if file.fault}
    for file in (each for s in find_sets(small) for each in s.files):
        try:
            read_image(file)
        except BadImage:
            assert file in refused
        else:
            assert file not in refused


def test_nothing_is_written_among_the_images_unless_asked(small, monkeypatch, capsys):
    monkeypatch.chdir(small)
    before = sorted(small.rglob("*"))
    code, error = call(doctor, ".", "workers=1")
    assert code == 2 and "out=FOLDER" in error and sorted(small.rglob("*")) == before
    assert call(doctor, ".", "out=doctor", "workers=1")[0] == 0


def test_a_plain_folder_is_one_set_without_a_command(small, tmp_path, capsys):
    assert call(doctor, small / "trainA", f"out={tmp_path / 'out'}", "workers=1")[0] == 0
    said = capsys.readouterr().out
    assert "trainA" in said and "train.py" not in said and "identity_weight" not in said


def test_folders_can_be_given_as_to_training(small, tmp_path, capsys):
    words = [f"data.train.horse={small}/trainA", f"data.train.zebra={small}/trainB"]
    assert call(doctor, *words, f"out={tmp_path / 'out'}", "workers=1")[0] == 0
    said = capsys.readouterr().out
    assert "train/horse" in said and "data.domains=[horse,zebra]" in said


@pytest.mark.parametrize(
    "words",
    [[], ["nowhere"], ["{}", "{}"], ["{}", "workers=0"], ["{}", "size=3"], ["{}", "out=/proc/x"]],
)
def test_a_mistake_is_answered_in_one_line(photos, words):
    code, error = call(doctor, *[word.format(photos) for word in words])
    assert code == 2 and error and "\n" not in error


def test_a_folder_without_images_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="no images"):
        find_sets(tmp_path)


def test_names_that_would_steer_a_terminal_are_shown_without(tmp_path):
    assert shown(tmp_path / "a\x1b[2Jb.png", tmp_path) == "a\ufffd[2Jb.png"
    assert shown(tmp_path / os.fsdecode(b"\xff.png"), tmp_path) == "\ufffd.png"


def test_names_that_are_no_text_go_through_the_whole_command(tmp_path):
    write_images(tmp_path / "set", 2)
    os.rename(tmp_path / "set/000.png", os.path.join(os.fsencode(tmp_path / "set"), b"\xff\n.png"))
    done = subprocess.run(
        [PYTHON, "-m", "data.doctor", str(tmp_path / "set"), f"out={tmp_path / 'out'}"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    json.loads((tmp_path / "out/doctor.json").read_text())


def test_every_kind_of_finding_has_words():
    assert all(level and title and text for level, title, text in KINDS.values())


def test_the_quick_check_names_surprises_and_the_command(small):
    with Image.open(small / "trainA/000.png") as image:
        image.convert("RGBA").save(small / "trainA/alpha.png")
    (small / "trainB/bad.png").write_text("x")
    config = DataConfig(root=str(small), crop_size=22, load_size=30)
    lines = quick_check(find_split(config, "train"), config)
    assert all(line.endswith(f"see: python -m data.doctor {small}") for line in lines)
    text = "\n".join(lines)
    assert "a: 8 images are far too few" in text and "1 of 8 sampled with transparency" in text
    assert "b: 1 of 6 sampled unreadable" in text
    assert "8 of 8 sampled smaller than data.crop_size=22" in text


def test_the_quick_check_says_how_many_files_were_passed_over_and_why(small):
    (small / "trainA/notes.txt").write_text("x")
    (small / "trainA/more.txt").write_text("x")
    (small / "trainA/gone.png").symlink_to("nowhere.png")
    config = DataConfig(root=str(small), crop_size=16, load_size=20)
    lines = quick_check(find_split(config, "train"), config)
    expected = "a: 3 files passed over (.txt is no image's, a link to nothing)"
    assert [line for line in lines if "passed over" in line] == [
        f"{expected}; see: python -m data.doctor {small}"
    ]


def test_the_quick_check_is_silent_where_all_is_well(sound):
    config = DataConfig(root=str(sound), load_size=143, crop_size=128)
    assert quick_check(find_split(config, "train"), config, seconds=30) == []


def test_the_quick_check_keeps_to_its_time(sound):
    config = DataConfig(root=str(sound), load_size=300)
    lines = quick_check(find_split(config, "train"), config, seconds=0)
    assert [line.split(" sampled")[0] for line in lines] == ["a: 1 of 1", "b: 1 of 1"]


def test_the_spread_of_a_set_is_that_of_all_its_pixels(small):
    pixels = np.concatenate([read_image(f).reshape(-1, 3) for f in sorted(small.glob("trainA/*"))])
    figures = examined(small).figures["train/a"]
    assert figures.mean == pytest.approx(pixels.mean(0), abs=0.1)
    assert figures.spread == pytest.approx(pixels.std(0), abs=0.1)


@pytest.mark.skipif(not SHARED.exists(), reason="real photographs that are no part of the project")
def test_real_photographs_have_the_copies_and_greys_that_a_person_sees():
    diagnosis = examined(SHARED / "horse2zebra-mini")
    assert found(diagnosis, "in_split") == [
        {"n02391049_1758.jpg", "n02391049_6947.jpg"},
        {"n02381460_1660.jpg", "n02381460_2710.jpg"},
    ]
    assert found(examined(SHARED / "monet2photo-mini"), "in_split") == []
