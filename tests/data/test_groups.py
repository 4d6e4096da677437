"""Images that belong together stay on one side of data.validation."""

import os

import numpy as np
from PIL import Image

import test as evaluation
import train
from data.config import DataConfig
from data.doctor.examine_image import examine
from data.doctor.findings import diagnose
from data.doctor.folder_layout import find_sets, layout_text
from data.doctor.quick_check import quick_check
from data.folders import find_split, with_absolute_paths
from data.groups import choose_held_out, count_series, group_names
from engine.provenance_files import read_data
from options.load import train_options
from tests.conftest import TINY, call, raises_user_error, write_images
from training.resolve_run import check_inputs, resolve_run


def write_table(path, text):
    path.write_text(text, encoding="utf-8")
    return f"{path}:patient"


def test_a_column_of_a_table_names_the_groups(tmp_path):
    for number, name in enumerate(("trainA", "trainB")):
        write_images(tmp_path / name, 12, first=20 * number)
    rows = [f"{n:03d}.png,{n % 2},p{n // 3}" for n in (*range(12), *range(20, 32))]
    group = write_table(tmp_path / "who.csv", "\n".join(["file,sex,patient", *rows]) + "\n")
    config = DataConfig(root=str(tmp_path), validation=0.2, group=group)
    assert with_absolute_paths(config).group == group
    train, held = find_split(config, "train"), find_split(config, "validation")
    for domain, start in (("a", 0), ("b", 20)):
        sides = [{int(f.stem) // 3 for f in split[domain]} for split in (train, held)]
        assert sides[1] and not sides[0] & sides[1]
        assert sum(len(split[domain]) for split in (train, held)) == 12
        assert all(int(file.stem) >= start for file in held[domain])


def test_tables_that_do_not_fit_are_refused(tmp_path):
    write_images(tmp_path / "x", 4)
    files = sorted((tmp_path / "x").iterdir())
    missing = write_table(tmp_path / "few.csv", "file,patient\n000.png,p1\n")
    for group in (missing, str(tmp_path / "few.csv:age"), str(tmp_path / "none.csv:patient")):
        with raises_user_error(option="data.group"):
            choose_held_out(files, tmp_path / "x", 0.5, group)


def test_tables_are_read_as_people_write_them(tmp_path):
    folder = tmp_path / "d(1"
    write_images(folder / "sub", 4)
    files = sorted((folder / "sub").iterdir())
    rows = './sub/000.png, p1\r\nsub\\001.png,p1\r\n002.png,\r\n"003.png",p2\r\n'
    (folder / "t.csv").write_text(f"\ufefffile,who/a\r\n{rows}", encoding="utf-8")
    group = f"{folder / 't.csv'}:who/a"
    assert DataConfig(group=group).group == group
    names = group_names(files, folder, group)
    first, second, third, fourth = names.values()
    assert first == second == "p1" and fourth == "p2" and "002.png" in third


def test_a_pattern_that_matches_nothing_is_told(tmp_path):
    for number, name in enumerate(("trainA", "trainB")):
        write_images(tmp_path / name, 12, first=20 * number)
    config = DataConfig(root=str(tmp_path), validation=0.2, group=r"(patient\d+)")
    lines = quick_check(find_split(config, "train"), config)
    assert sum("matches none of the files" in line for line in lines) == 2


def test_what_a_run_held_out_stays_held_out_when_images_are_added(tmp_path):
    for number, name in enumerate(("trainA", "trainB")):
        write_images(tmp_path / "d" / name, 20, first=40 * number)
    run = tmp_path / "run"
    words = ["cyclegan", f"data.root={tmp_path / 'd'}", f"run={run}", "data.validation=0.2", *TINY]
    assert call(train, *words, "duration=2 steps", "decay_after=100%") == (0, "")
    recorded = {d: set(each) for d, each in read_data(run)["validation"].items()}
    write_images(tmp_path / "d" / "trainA", 20, first=200)
    options = train_options(
        [*words[:2], f"run={run}", *words[3:], "duration=4 steps", "decay_after=100%"]
    )
    assert options is not None
    resolved = resolve_run(check_inputs(options, False), run)
    assert {f.name for f in resolved.validation_files["a"]} == recorded["a"]
    assert not recorded["a"] & {f.name for f in resolved.files["a"]}
    assert len(resolved.files["a"]) + len(resolved.validation_files["a"]) == 40
    assert call(evaluation, run, "data.validation=0.1", "checks=false")[0] == 2


def test_names_that_are_not_text_and_new_slices_of_a_held_out_patient_stay_held_out(tmp_path):
    folder = tmp_path / "d"
    for number, name in enumerate(("trainA", "trainB")):
        write_images(folder / name, 10, first=40 * number)
        for file in sorted((folder / name).iterdir()):
            patient = int(file.stem) % 5
            os.rename(
                file, os.fsencode(folder / name) + b"/p%d_\xe4%s" % (patient, file.name.encode())
            )
    words = ["cyclegan", f"data.root={folder}", f"run={tmp_path / 'run'}", "data.validation=0.2",
             "data.group=^(p[0-9]+)_", *TINY, "duration=2 steps"]  # fmt: skip
    assert call(train, *words) == (0, "")
    options = train_options(words)
    assert options is not None
    first = resolve_run(check_inputs(options, False), tmp_path / "run")
    assert {len(files) for files in first.validation_files.values()} == {2}
    (patient,) = {file.name[:2] for file in first.validation_files["a"]}
    for number in range(5):
        write_images(folder / "new", 1, first=300 + number)
        file = folder / "new" / f"{300 + number}.png"
        file.rename(folder / "trainA" / f"{patient}_new{number}.png")
    (folder / "new").rmdir()
    again = resolve_run(check_inputs(options, False), tmp_path / "run")
    assert len(again.validation_files["a"]) == 7 and len(again.files["a"]) == 8
    assert not any(file.name.startswith(patient) for file in again.files["a"])
    assert call(evaluation, tmp_path / "run", "checks=false", "wandb=disabled") == (0, "")


def test_names_of_slices_are_a_series_and_names_of_photographs_are_not(tmp_path):
    slices = [tmp_path / f"patient{p}_{n:03d}.png" for p in range(3) for n in range(8)]
    assert count_series(slices, tmp_path) == 3
    assert count_series([tmp_path / f"{n:05d}.jpg" for n in range(30)], tmp_path) == 0
    assert (
        count_series([tmp_path / f"IMG{n}{'abc'[n % 3] * n}.jpg" for n in range(9)], tmp_path) == 0
    )


def test_the_doctor_finds_slices_on_both_sides_and_proposes_a_group(tmp_path):
    for domain, base in (("ct", 0), ("mr", 40)):
        (tmp_path / domain).mkdir()
        for patient in range(3):
            random = np.random.default_rng(base + patient)
            body = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            for number in range(10):
                pixels = np.asarray(Image.fromarray(body).resize((64, 64), 2)).astype(int)
                noise = np.random.default_rng(number).integers(-3, 4, pixels.shape)
                name = tmp_path / domain / f"p{patient}_{number:02d}.png"
                Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(name)
    sets = find_sets(tmp_path)
    assert "two folders side by side, ct, mr" in layout_text(tmp_path, sets)
    diagnosis = diagnose(tmp_path, sets, [[examine(f) for f in each.files] for each in sets])
    assert "across_validation" in [finding.name for finding in diagnosis.findings]
    assert "data.group=" in diagnosis.command and "data.validation=0.1" in diagnosis.command
    assert "run=runs/" in diagnosis.command


def test_one_folder_with_subfolders_or_runs_beside_them_is_recognized(tmp_path):
    for name in ("photos", "paintings", "more"):
        write_images(tmp_path / name, 2, first=10 * len(name))
    assert [each.split for each in find_sets(tmp_path)] == [""]  # three: one set, and it says so
    (tmp_path / "more" / "x").mkdir()
    (tmp_path / "more" / "x" / "options.yaml").touch()  # a folder of runs
    assert [each.domain for each in find_sets(tmp_path)] == ["paintings", "photos"]
    write_images(tmp_path, 1, first=90)
    assert [each.split for each in find_sets(tmp_path)] == [""]
