"""Two folders are enough: domains, held-out images, sizes and the preset are chosen and printed."""

import numpy as np
import pytest
from PIL import Image

import train
from options.load import saved_options, train_options
from options.two_folders import choose_options
from tests.conftest import TINY, call, raises_user_error, write_images


@pytest.fixture
def folders(tmp_path, monkeypatch):
    write_images(tmp_path / "My Photos", 12, (300, 300))
    write_images(tmp_path / "paintings", 10, (320, 300), first=50)
    monkeypatch.chdir(tmp_path)
    return [str(tmp_path / "My Photos"), str(tmp_path / "paintings")]


def test_the_choice_is_told_in_three_lines_of_which_the_last_is_the_same_in_full(folders, capsys):
    options = train_options([*folders, "runtime.device=cpu", "seed=4"])
    assert options is not None
    assert options.data.domains == ["My-Photos", "paintings"] and options.seed == 4
    assert options.data.train == dict(zip(options.data.domains, folders, strict=True))
    assert options.data.validation == 0.1 and options.run == "runs/My-Photos-paintings"
    assert options.data.crop_size == 128 and options.data.fit == "stretch"
    first, second, third = capsys.readouterr().out.splitlines()
    assert (
        first == "My-Photos: 12 images, paintings: 10 images; 10% of each are held out for test.py"
    )
    assert second == "preset cyclegan_small: no GPU, so small networks; 128 pixels"
    import shlex

    words = shlex.split(third.removeprefix("the same in full: "))
    assert words[:3] == ["python", "train.py", "cyclegan_small"]
    assert train_options(words[2:]) == options


def test_long_and_small_images_are_not_stretched_or_enlarged(tmp_path):
    write_images(tmp_path / "a", 12, (110, 70))
    write_images(tmp_path / "b", 12, (70, 110), first=50)
    choice = choose_options([str(tmp_path / "a"), str(tmp_path / "b")], ["runtime.device=cpu"])
    assert {"data.load_size=72", "data.crop_size=64", "data.fit=short_side"} <= set(choice.settings)


def test_the_users_settings_come_first(folders):
    settings = ["data.domains=photo,monet", "run=here", "data.crop_size=64", "runtime.device=cpu"]
    choice = choose_options(folders, settings)
    options = train_options([choice.preset, *choice.settings])
    assert options is not None
    assert options.data.domains == ["photo", "monet"] and options.run == "here"
    assert options.data.train["monet"] == folders[1] and options.data.crop_size == 64


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["data.validation=0.3"], "data.validation=0.3 of each are held out"),
        (["data.test.paintings=x"], "test.py uses the folders in data.test"),
        (["data.limit=5"], "none are held out"),
        (["data.domains=['p', 'm']"], "p: 12 images, m: 10 images"),
    ],
)
def test_the_lines_tell_what_the_user_has_set(folders, settings, line):
    choice = choose_options(folders, [*settings, "runtime.device=cpu"])
    assert line in choice.lines[0]
    assert train_options([choice.preset, *choice.settings]) is not None


def test_a_size_of_the_user_comes_with_no_size_of_ours(tmp_path):
    write_images(tmp_path / "a", 12, (70, 70))
    write_images(tmp_path / "b", 12, (70, 70), first=50)
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    choice = choose_options(folders, ["data.crop_size=128", "runtime.device=cpu"])
    assert not any("load_size" in word for word in choice.settings)
    assert "64 pixels" not in choice.lines[1]


def test_runs_of_a_sweep_and_of_seeds_have_their_own_folders(
    folders, tmp_path, monkeypatch, capsys
):
    words = [*TINY, "duration=1 steps", "run=r", "seeds=[1,2]"]
    assert call(train, *folders, *words) == (0, "")
    capsys.readouterr()
    write_images(tmp_path / "paintings", 3, first=90)  # a tenth is another number now
    assert call(train, *folders, *words) == (0, "")
    assert "r-seed1/options.yaml" in capsys.readouterr().out
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_RUN_ID", "one")
    options = train_options([*folders, "runtime.device=cpu"])
    assert options is not None and options.run == "runs/My-Photos-paintings-one"


def test_options_without_a_checkpoint_are_no_run(folders, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "options.yaml").write_text("seed: 5\n")
    assert choose_options(folders, ["run=r", "runtime.device=cpu"]).preset == "cyclegan_small"


def test_few_images_are_not_held_out(tmp_path, capsys):
    write_images(tmp_path / "a", 12)
    write_images(tmp_path / "b", 9, first=50)
    options = train_options([str(tmp_path / "a"), str(tmp_path / "b"), "runtime.device=cpu"])
    assert options is not None and options.data.validation == 0
    assert "none are held out" in capsys.readouterr().out


def test_a_run_that_has_begun_keeps_its_options(folders, tmp_path, capsys):
    words = [*TINY, "duration=1 steps", "run=r"]
    assert call(train, *folders, *words) == (0, "")
    began = saved_options(tmp_path / "r" / "options.yaml")
    capsys.readouterr()
    assert call(train, *folders, *words) == (0, "")
    assert "the options are those of" in (out := capsys.readouterr().out) and "r is finished" in out
    assert saved_options(tmp_path / "r" / "options.yaml") == began


@pytest.mark.parametrize("words", [["paintings"], ["paintings", "nowhere"], ["paintings"] * 3])
def test_other_than_two_folders_are_answered_with_what_is_missing(folders, words):
    with raises_user_error():
        train_options(words)
    if "nowhere" in words:
        with raises_user_error(path="nowhere"):
            train_options(words)


def test_folders_of_one_name_need_names(tmp_path):
    for place in ("one", "two"):
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(_made(tmp_path / place / "x") / "i.png")
    with raises_user_error(option="data.domains"):
        choose_options([str(tmp_path / "one" / "x"), str(tmp_path / "two" / "x")], [])


def _made(folder):
    folder.mkdir(parents=True)
    return folder
