"""The doctor reports everything worth knowing about images before training, and an exit code."""

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
from data.config import DataConfig
from data.doctor.findings import FINDING_KINDS, LEVEL_HEADINGS, Diagnosis, diagnose
from data.doctor.folder_layout import display_name, find_sets
from data.doctor.quick_check import quick_check
from data.folders import find_split, folder_of
from data.reading import BadImage, read_image
from tests.conftest import PYTHON, ROOT, call, raises_user_error, refusal, write_images

SHARED = ROOT.parent / "shared/images"


def diagnosis_of(root: Path) -> Diagnosis:
    """Return the diagnosis of a folder, read in one process."""
    sets = find_sets(root)
    results = iter(doctor.examine_all([file for each in sets for file in each.files], 1))
    return diagnose(root, sets, [[next(results) for _ in each.files] for each in sets])


def files_of(diagnosis: Diagnosis, name: str) -> list[set[str]]:
    """Return the names of the files in each occurrence of a finding."""
    return [
        {file.name for file in occurrence.files}
        for finding in diagnosis.findings
        if finding.name == name
        for occurrence in finding.occurrences
    ]


def recommended(diagnosis: Diagnosis) -> dict[str, str]:
    return dict(each.option.split("=", 1) for each in diagnosis.recommendations)


@pytest.fixture(scope="session")
def flawless(tmp_path_factory) -> Path:
    """A data set without findings: 300 images of 128 pixels in each training folder."""
    root = tmp_path_factory.mktemp("flawless")
    for number, (name, count) in enumerate(
        (("trainA", 300), ("trainB", 300), ("testA", 3), ("testB", 3))
    ):
        write_images(root / name, count, (128, 128), 1000 * number)
    return root


def test_a_flawless_set_has_no_findings_and_the_command_trains_on_it(flawless):
    diagnosis = diagnosis_of(flawless)
    assert diagnosis.findings == [] and diagnosis.usable
    assert diagnosis.command.startswith(f"python train.py cyclegan data.root={flawless} ")
    assert "data.load_size=143 data.crop_size=128" in diagnosis.command


@pytest.fixture
def small(photos, tmp_path) -> Path:
    shutil.copytree(photos, tmp_path / "set")
    return tmp_path / "set"


def test_copies_are_classified_by_the_splits_and_domains_they_cross(small):
    shutil.copy(small / "trainA/000.png", small / "trainA/again.png")
    shutil.copy(small / "trainA/001.png", small / "testA/leak.png")
    with Image.open(small / "trainA/002.png") as image:
        image.convert("RGB").save(small / "trainB/both.jpg", quality=90)
    shown = max(file for file in (small / "testA").iterdir() if file.name != "leak.png")
    shutil.copy(shown, small / "testB/truth.png")
    diagnosis = diagnosis_of(small)
    assert files_of(diagnosis, "in_split") == [{"000.png", "again.png"}]
    assert files_of(diagnosis, "across_splits") == [{"001.png", "leak.png"}]
    assert files_of(diagnosis, "across_domains") == [{"002.png", "both.jpg"}]
    assert files_of(diagnosis, "test_pairs") == [{shown.name, "truth.png"}]


def test_images_of_a_single_color_are_copies_only_if_their_bytes_are_equal(tmp_path):
    for number in range(9):
        image = Image.new("RGB", (64, 64), (90 + number, 130, 200))
        image.save(tmp_path / f"{number}.png")
    shutil.copy(tmp_path / "3.png", tmp_path / "copy.png")
    diagnosis = diagnosis_of(tmp_path)
    assert files_of(diagnosis, "in_split") == [{"3.png", "copy.png"}]
    assert len(files_of(diagnosis, "constant")) == 10


def test_small_and_few_images_and_missing_test_images_are_reported(small):
    shutil.rmtree(small / "testB")
    write_images(small / "trainA", 9, (400, 300), 500)
    write_images(small / "trainB", 9, (400, 300), 600)
    names = {finding.name for finding in diagnosis_of(small).findings}
    assert {"few", "no_test", "small", "sizes"} <= names


def test_files_that_are_not_images_are_reported_and_hidden_ones_are_not(small):
    (small / "trainA/notes.txt").write_text("x")
    (small / "trainA/.DS_Store").write_text("x")
    os.symlink("nowhere.png", small / "trainA/broken.png")
    os.mkfifo(small / "trainA/pipe.png")
    diagnosis = diagnosis_of(small)
    assert sorted(map(sorted, files_of(diagnosis, "passed_over"))) == [
        ["broken.png"], ["notes.txt"], ["pipe.png"],
    ]  # fmt: skip
    assert diagnosis.usable


def test_a_color_gap_is_measured_and_lowers_the_identity_loss(tmp_path):
    for folder, shift in (("trainA", 0), ("trainB", 70)):
        (tmp_path / folder).mkdir()
        for number in range(5):
            noise = np.random.default_rng(number + shift).integers(60, 120, (32, 32, 3))
            Image.fromarray((noise + np.array([shift, 0, 0])).astype(np.uint8)).save(
                tmp_path / folder / f"{number}.png"
            )
    diagnosis = diagnosis_of(tmp_path)
    assert diagnosis.gaps[0].mean == pytest.approx([70, 0, 0], abs=2)
    assert recommended(diagnosis)["method.identity_weight"] == "0.1"
    assert "colours" in {finding.name for finding in diagnosis.findings}


def test_the_channels_of_the_domains_are_recommended(tmp_path):
    write_images(tmp_path / "trainB", 4)
    (tmp_path / "trainA").mkdir()
    for file in (tmp_path / "trainB").iterdir():
        with Image.open(file) as image:
            image.convert("L").rotate(90, expand=True).save(tmp_path / "trainA" / file.name)
    options = recommended(diagnosis_of(tmp_path))
    assert options["data.channels"] == "[1,3]" and options["method.identity_weight"] == "0"


def test_long_and_large_images_keep_their_aspect_ratio_and_are_cached(tmp_path):
    for folder in ("trainA", "trainB"):
        write_images(tmp_path / folder, 2, (1500, 900), 7 if folder == "trainA" else 70)
    options = recommended(diagnosis_of(tmp_path))
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


def test_domains_with_invalid_names_are_renamed_and_given_by_folder(tmp_path):
    for name in ("my photos", "b_to_c"):
        write_images(tmp_path / "train" / name, 2, first=len(name))
    command = diagnosis_of(tmp_path).command
    assert f"'data.train.my-photos={tmp_path}/train/my photos'" in command
    assert "'data.domains=[b-c,my-photos]'" in command
    DataConfig(domains=["b-c", "my-photos"])


def test_the_command_writes_its_three_files_and_reports_problems(small, tmp_path, capsys):
    (small / "trainA/bad<b>.png").write_text("no image")
    out = tmp_path / "out"
    assert call(doctor, small, f"out={out}", "workers=1") == (1, "")
    printed = capsys.readouterr()
    assert LEVEL_HEADINGS["error"] in printed.out and "trainA/bad<b>.png (not an" in printed.out
    assert "reading 18 images" in printed.err
    assert sorted(file.name for file in out.iterdir()) == [
        "contact_sheet.jpg", "doctor.html", "doctor.json",
    ]  # fmt: skip
    record = json.loads((out / "doctor.json").read_text())
    assert len(record["files"]) == 18
    finding = record["findings"][0]
    assert (finding["name"], finding["level"], finding["count"]) == ("unreadable", "error", 1)
    assert finding["entries"][0]["files"] == [str(small / "trainA/bad<b>.png")]
    page = (out / "doctor.html").read_text()
    assert 'class="is-error"' in page and 'class="is-warning"' in page
    assert "bad&lt;b&gt;.png" in page and "<b>.png" not in page
    assert not re.search(r'(src|href)="(?!data:)', page) and "$" not in page
    with Image.open(out / "contact_sheet.jpg") as sheet:
        assert sheet.width > 1000 and np.asarray(sheet).std() > 10


def test_files_with_a_fault_are_those_that_training_refuses(small):
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    (small / "trainA/cut.png").write_bytes(whole.getvalue()[:2000])
    (small / "trainB/empty.jpg").write_bytes(b"")
    refused = {file.path for files in diagnosis_of(small).examined for file in files if file.fault}
    for file in (each for s in find_sets(small) for each in s.files):
        try:
            read_image(file)
        except BadImage:
            assert file in refused
        else:
            assert file not in refused


def test_nothing_is_written_among_the_images_by_default(small, monkeypatch, capsys):
    monkeypatch.chdir(small)
    before = sorted(small.rglob("*"))
    assert refusal(doctor, ".", "workers=1").option == "out"
    assert sorted(small.rglob("*")) == before
    assert call(doctor, ".", "out=doctor", "workers=1")[0] == 0


def test_a_plain_folder_is_one_set_without_a_command(small, tmp_path, capsys):
    assert call(doctor, small / "trainA", f"out={tmp_path / 'out'}", "workers=1")[0] == 0
    printed = capsys.readouterr().out
    assert "trainA" in printed
    assert "train.py" not in printed and "identity_weight" not in printed


def test_folders_can_be_given_as_to_training(small, tmp_path, capsys):
    words = [f"data.train.horse={small}/trainA", f"data.train.zebra={small}/trainB"]
    assert call(doctor, *words, f"out={tmp_path / 'out'}", "workers=1")[0] == 0
    printed = capsys.readouterr().out
    assert "train/horse" in printed and "data.domains=[horse,zebra]" in printed


@pytest.mark.parametrize(
    "words",
    [[], ["nowhere"], ["{}", "{}"], ["{}", "workers=0"], ["{}", "size=3"], ["{}", "out=/proc/x"]],
)
def test_a_mistake_is_answered_in_one_line(photos, words):
    code, error = call(doctor, *[word.format(photos) for word in words])
    assert code == 2 and error and "\n" not in error


def test_a_folder_without_images_is_refused(tmp_path):
    with raises_user_error(path=tmp_path):
        find_sets(tmp_path)


def test_control_characters_in_names_are_replaced(tmp_path):
    assert display_name(tmp_path / "a\x1b[2Jb.png", tmp_path) == "a\ufffd[2Jb.png"
    assert display_name(tmp_path / os.fsdecode(b"\xff.png"), tmp_path) == "\ufffd.png"


def test_names_that_are_not_text_go_through_the_whole_command(tmp_path):
    write_images(tmp_path / "set", 2)
    os.rename(tmp_path / "set/000.png", os.path.join(os.fsencode(tmp_path / "set"), b"\xff\n.png"))
    done = subprocess.run(
        [PYTHON, "-m", "data.doctor", str(tmp_path / "set"), f"out={tmp_path / 'out'}"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    json.loads((tmp_path / "out/doctor.json").read_text())


def test_every_kind_of_finding_has_a_level_a_title_and_advice():
    for level, title, advice in FINDING_KINDS.values():
        assert level in LEVEL_HEADINGS and title and advice.endswith(".")


def test_the_quick_check_names_problems_and_the_command(small):
    with Image.open(small / "trainA/000.png") as image:
        image.convert("RGBA").save(small / "trainA/alpha.png")
    (small / "trainB/bad.png").write_text("x")
    config = DataConfig(root=str(small), crop_size=22, load_size=30)
    lines = quick_check(find_split(config, "train"), config)
    assert lines[-1] == f"more about the images: python -m data.doctor {small}"
    text = "\n".join(lines)
    assert "a: 8 images are far too few" in text
    assert "a: images with transparency (1 of 8 sampled)" in text
    assert "b: unreadable files (1 of 6 sampled)" in text
    assert "a: images smaller than data.crop_size=22 (8 of 8 sampled)" in text


def test_the_quick_check_says_how_many_files_were_passed_over_and_why(small):
    (small / "trainA/notes.txt").write_text("x")
    (small / "trainA/more.txt").write_text("x")
    (small / "trainA/gone.png").symlink_to("nowhere.png")
    config = DataConfig(root=str(small), crop_size=16, load_size=20)
    lines = quick_check(find_split(config, "train"), config)
    expected = "a: 3 files are ignored (.txt is not an image format, broken link)"
    assert [line for line in lines if "ignored" in line] == [expected]


def test_the_quick_check_reports_nothing_about_a_flawless_set(flawless):
    config = DataConfig(root=str(flawless), load_size=143, crop_size=128)
    assert quick_check(find_split(config, "train"), config, seconds=30) == []


def test_the_quick_check_keeps_to_its_time(flawless):
    config = DataConfig(root=str(flawless), load_size=300)
    lines = quick_check(find_split(config, "train"), config, seconds=0)
    sampled = [re.search(r"^(\w): .*\((.*) sampled\)", line) for line in lines[:-1]]
    assert [match and match.groups() for match in sampled] == [("a", "1 of 1"), ("b", "1 of 1")]


def test_the_standard_deviation_of_a_set_is_that_of_all_its_pixels(small):
    pixels = np.concatenate([read_image(f).reshape(-1, 3) for f in sorted(small.glob("trainA/*"))])
    statistics = diagnosis_of(small).statistics["train/a"]
    assert statistics.mean == pytest.approx(pixels.mean(0), abs=0.1)
    assert statistics.std == pytest.approx(pixels.std(0), abs=0.1)


@pytest.mark.skipif(not SHARED.exists(), reason="real photographs that are not part of the project")
def test_real_photographs_have_the_copies_and_greys_that_a_person_sees():
    diagnosis = diagnosis_of(SHARED / "horse2zebra-mini")
    assert files_of(diagnosis, "in_split") == [
        {"n02391049_1758.jpg", "n02391049_6947.jpg"},
        {"n02381460_1660.jpg", "n02381460_2710.jpg"},
    ]
    assert files_of(diagnosis_of(SHARED / "monet2photo-mini"), "in_split") == []


def test_links_that_lead_out_of_a_training_folder_are_told(small, tmp_path):
    config = DataConfig(root=str(small), crop_size=16, load_size=20)
    files = find_split(config, "train")
    assert not any("out of its folder" in line for line in quick_check(files, config))
    (tmp_path / "elsewhere").mkdir()
    (small / "trainA" / "more").symlink_to(tmp_path / "elsewhere")
    lines = [line for line in quick_check(files, config) if "out of its folder" in line]
    assert lines == ["a: 1 link leads out of its folder, such as more"]
    (small / "trainA" / "more").unlink()
    (small / "testA").mkdir(exist_ok=True)
    (small / "testB").mkdir(exist_ok=True)
    (small / "trainA" / "more").symlink_to(small / "testA")
    (line,) = [line for line in quick_check(files, config) if "out of its folder" in line]
    assert "test images are among the training images" in line
