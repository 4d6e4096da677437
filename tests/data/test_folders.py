"""Finding images: layouts, names, links, and the errors when images or folders are missing."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from data import folders as module
from data.config import DataConfig
from data.doctor.quick_check import quick_check
from data.folders import evenly_spaced, files_in, find_split, with_absolute_paths
from data.ground_truth_pairs import ground_truth_files
from data.groups import group_of
from tests.conftest import raises_user_error, write_images

LAYOUTS = {
    "trainA": ("trainA", "trainB"), "train/name": ("train/monet", "train/photo"),
    "train/A": ("train/A", "train/B"), "train_A": ("train_A", "train_B"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_usual_layouts_are_found(tmp_path, layout):
    for folder, count in zip(LAYOUTS[layout], (3, 2), strict=True):
        write_images(tmp_path / folder, count)
    found = find_split(DataConfig(root=str(tmp_path), domains=["monet", "photo"]), "train")
    assert {domain: len(files) for domain, files in found.items()} == {"monet": 3, "photo": 2}


def test_an_explicit_folder_wins_over_the_root(tmp_path):
    for folder in ("trainA", "trainB", "elsewhere"):
        write_images(tmp_path / folder, 2)
    config = DataConfig(root=str(tmp_path), train={"a": str(tmp_path / "elsewhere")})
    assert all(file.parent.name == "elsewhere" for file in find_split(config, "train")["a"])


def test_files_come_sorted_by_bytes_from_the_whole_tree_without_hidden_ones(tmp_path):
    for name in (
        "b.png",
        "a.PNG",
        "sub/c.jpg",
        ".hidden.png",
        "__MACOSX/d.png",
        "notes.txt",
        "é.png",
        "Z.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = [file.relative_to(tmp_path).as_posix() for file in files_in(tmp_path)]
    assert names == ["Z.png", "a.PNG", "b.png", "sub/c.jpg", "é.png"]


def test_links_in_a_circle_end_and_odd_files_are_passed_over(tmp_path):
    write_images(tmp_path / "real", 2)
    (tmp_path / "real/again").symlink_to(tmp_path / "real")
    (tmp_path / "real/up").symlink_to(tmp_path)
    (tmp_path / "real/broken.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "real/pipe.png")
    (tmp_path / "real/self.png").symlink_to(tmp_path / "real/self.png")
    assert len(files_in(tmp_path / "real")) == 2


@pytest.mark.slow
def test_a_hundred_thousand_files_are_listed_in_a_second(tmp_path, record_property):
    names = [f"{number:06d}.png" for number in range(100_000)]
    for name in names:
        os.close(os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY))
    files_in(tmp_path)  # the first listing is limited by the disk
    seconds = []
    for _ in range(3):
        began = time.process_time()
        found = files_in(tmp_path)
        seconds.append(time.process_time() - began)
    assert [file.name for file in found] == names
    record_property("figure", f"{min(seconds):.2f} s")
    assert min(seconds) < 1


@pytest.mark.parametrize(
    "name", [b"sp ace.png", b"new\nline.png", b"\xff\xfe.png", b"-rf.png", b"x" * 251 + b".png"]
)
def test_strange_names_are_files_like_others(tmp_path, name):
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
    assert [os.fsencode(file.name) for file in files_in(tmp_path)] == [name]


def test_what_is_missing_is_said_in_one_line(tmp_path):
    with raises_user_error(option="data.root"):
        find_split(DataConfig(), "train")
    with raises_user_error(option="data.root", path=tmp_path / "x"):
        find_split(DataConfig(root=str(tmp_path / "x")), "train")
    (tmp_path / "horses").mkdir()
    with pytest.raises(UserError, match=r"trainA or train/a \(it has horses\)") as missing:
        find_split(DataConfig(root=str(tmp_path)), "train")
    assert (missing.value.option, missing.value.path) == ("data.root", str(tmp_path))
    with raises_user_error(option="data.train.a", path="/nowhere"):
        find_split(DataConfig(train={"a": "/nowhere"}), "train")
    (tmp_path / "trainA").mkdir()
    (tmp_path / "trainB").mkdir()
    with raises_user_error(path=tmp_path / "trainA"):
        find_split(DataConfig(root=str(tmp_path)), "train")


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"domains": ["a"]}, "domains"), ({"domains": ["a", "a"]}, "domains"),
        ({"domains": ["a b", "c"]}, "domains"), ({"domains": ["x_to_y", "c"]}, "domains"),
        ({"domains": ["../x", "c"]}, "domains"), ({"channels": [3, 3, 3]}, "channels"),
        ({"channels": [0]}, "channels"), ({"crop_size": 300}, "crop_size"),
        ({"load_size": 0}, "load_size"), ({"workers": -1}, "workers"),
        ({"train": {"c": "x"}}, "train.c"),
        ({"color_jitter": 1.0}, "color_jitter"),
        ({"color_jitter": 0.1, "channels": [4]}, "color_jitter"), ({"rotate": 270.0}, "rotate"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(changes, option):
    with raises_user_error(option=f"data.{option}"):
        DataConfig(**changes)


def test_an_unknown_domain_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"data\.train\.a, data\.train\.b"):
        DataConfig(train={"c": "x"})


def test_a_limit_takes_the_first_images_of_each_folder(photos):
    config = DataConfig(root=str(photos), limit=2)
    assert [len(files) for files in find_split(config, "train").values()] == [2, 2]


def test_images_are_paired_only_if_the_data_set_or_the_option_declares_it(tmp_path):
    for folder in ("testA", "testB"):
        write_images(tmp_path / folder, 3)
    config = DataConfig(root=str(tmp_path))
    held_out = find_split(config, "test")
    assert ground_truth_files(config, held_out) == {}  # equal names alone do not make pairs
    both = ground_truth_files(replace(config, pairs="both"), held_out)
    assert set(both) == {"a_to_b", "b_to_a"}
    assert [file.name for file in both["a_to_b"]] == [file.name for file in held_out["b"]]
    (tmp_path / "dataset.json").write_text(json.dumps({"pairs": "forward"}))
    assert set(ground_truth_files(config, held_out)) == {"a_to_b"}
    (tmp_path / "testB/000.png").unlink()
    with raises_user_error(option="data.pairs", path=tmp_path / "testA/000.png"):
        ground_truth_files(config, find_split(config, "test"))
    (tmp_path / "dataset.json").write_text("{")
    with raises_user_error(path=tmp_path / "dataset.json"):
        ground_truth_files(config, held_out)


def test_names_that_end_in_their_domain_pair_up(tmp_path):
    for folder, letter in (("testA", "A"), ("testB", "B")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"7_{letter}.jpg").write_bytes(b"x")
    config = DataConfig(root=str(tmp_path), pairs="both")
    assert ground_truth_files(config, find_split(config, "test"))["a_to_b"][0].name == "7_B.jpg"


def test_pairs_are_found_by_their_path_in_the_folder_not_by_their_stem(tmp_path):
    for letter in "AB":
        for place in "xy":
            write_images(tmp_path / f"test{letter}" / place, 1)
    config = DataConfig(root=str(tmp_path), pairs="both")
    held_out = find_split(config, "test")
    assert [file.parent.name for file in ground_truth_files(config, held_out)["a_to_b"]] == [
        "x",
        "y",
    ]
    (tmp_path / "testB/x/000.jpg").write_bytes(b"x")
    with raises_user_error(option="data.pairs", path=tmp_path / "testB/x/000.png"):
        ground_truth_files(config, find_split(config, "test"))


def test_an_empty_folder_name_and_one_folder_for_both_domains_are_refused(tmp_path):
    write_images(tmp_path / "a", 1)
    with raises_user_error(option="data.train.a"):
        find_split(DataConfig(train={"a": "", "b": str(tmp_path / "a")}), "train")
    with raises_user_error(option="data.train", path=tmp_path / "a"):
        find_split(DataConfig(train={"a": str(tmp_path / "a"), "b": f"{tmp_path}/a/."}), "train")


def test_folders_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(DataConfig(root="x", train={"a": "y"}))
    assert (config.root, config.train) == (str(tmp_path / "x"), {"a": str(tmp_path / "y")})
    assert with_absolute_paths(DataConfig()).root == ""


def test_validation_images_leave_the_training_set_and_do_not_move(tmp_path):
    for folder in ("trainA", "trainB", "testA", "testB"):
        write_images(tmp_path / folder, 20)
    config = DataConfig(root=str(tmp_path), validation=0.25)
    train, validation = find_split(config, "train"), find_split(config, "validation")
    whole = find_split(replace(config, validation=0.0), "train")
    for domain in ("a", "b"):
        assert len(validation[domain]) == 5
        assert sorted(train[domain] + validation[domain]) == whole[domain]
    assert find_split(replace(config, validation=0.0), "validation") == {"a": [], "b": []}
    names = {domain: {file.name for file in files} for domain, files in validation.items()}
    assert names["a"] == names["b"]  # the choice depends on the names alone
    write_images(tmp_path / "trainA", 1, first=30)
    more = find_split(replace(config, validation=0.34), "validation")
    assert set(validation["a"]) <= set(more["a"])
    for fraction in (-0.1, 1.0):
        with raises_user_error(option="data.validation"):
            DataConfig(validation=fraction)
    with pytest.raises(UserError, match=r"data\.validation=0.01 of 21 images"):
        find_split(replace(config, validation=0.01), "train")


def test_items_are_evenly_spaced_in_order_and_never_more_than_there_are():
    assert evenly_spaced(range(10), 4) == [0, 2, 5, 7]
    assert evenly_spaced("abc", 20) == ["a", "b", "c"]
    assert evenly_spaced([1, 2], 0) == [] == evenly_spaced([], 3)


def test_a_group_stays_on_one_side_of_the_validation(tmp_path):
    for domain in "AB":
        for patient in range(10):
            for number in range(7):
                write_images(tmp_path / f"train{domain}", 1, (4, 4), 0)
                (tmp_path / f"train{domain}/000.png").rename(
                    tmp_path / f"train{domain}/patient{patient}_{number:03d}.png"
                )
    config = DataConfig(root=str(tmp_path), validation=0.2, group=r"(patient\d+)_")
    train, validation = find_split(config, "train"), find_split(config, "validation")
    for domain in "ab":
        sides = [
            {file.name.split("_")[0] for file in files[domain]} for files in (train, validation)
        ]
        assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 10
        assert len(validation[domain]) == 14
    without = DataConfig(root=str(tmp_path), validation=0.2)
    sides = [{f.name.split("_")[0] for f in find_split(without, split)["a"]}
             for split in ("train", "validation")]  # fmt: skip
    assert sides[0] & sides[1]
    assert any("slices or frames of 8 sources" in line for line in quick_check(train, without))
    assert not any("slices or frames" in line for line in quick_check(train, config))


def test_what_does_not_match_a_group_is_a_group_of_its_own():
    assert group_of("s1/a_1.png", r"^(\w+)/") == group_of("s1/b_2.png", r"^(\w+)/") == "s1"
    assert group_of("x.png", r"^(\w+)/") != group_of("y.png", r"^(\w+)/")
    with pytest.raises(UserError) as error:
        DataConfig(group="(")
    assert error.value.option == "data.group"


def test_within_a_command_a_folder_is_listed_once(tmp_path, monkeypatch):
    write_images(tmp_path, 3)
    listed = []
    scan = module.scan_files
    monkeypatch.setattr(module, "scan_files", lambda folder: listed.append(folder) or scan(folder))
    with module.listed_once():
        first = module.files_in(tmp_path)
        (tmp_path / "000.png").unlink()
        with module.listed_once():
            assert module.files_in(tmp_path) == first
        first.clear()  # the list belongs to who asked for it
        assert len(module.files_in(tmp_path, limit=2)) == 2
    assert len(module.files_in(tmp_path)) == 2 and len(listed) == 2
