"""Words that no file system could hold are answered in one line, wherever a path is expected."""

from pathlib import Path

import pytest

import data.doctor.__main__ as doctor
import export
import test
import train
import translate
from errors import UserError
from inference import compare, preference, repeated, summarise
from inference.templates import run_onnx
from paths import named_path
from tests.conftest import call

LONG = ["x" * 5000, "/".join(["y" * 200] * 40), "~/" + "z" * 300]
EXPECTED = {
    "a preset": (train, ["{}"]),
    "a preset's file": (train, ["{}.yaml"]),
    "run": (train, ["demo", "run={}", "duration=1 steps"]),
    "data.root": (train, ["cyclegan", "data.root={}"]),
    "data.train": (train, ["cyclegan", "data.train.a={}", "data.train.b={}"]),
    "data.cache": (train, ["demo", "run={run}", "data.cache={}", "duration=1 steps"]),
    "init_from": (train, ["demo", "run={run}", "init_from={}", "duration=1 steps"]),
    "a run to evaluate": (test, ["{}"]),
    "inception": (test, ["{trained}", "inception={}"]),
    "a run to translate with": (translate, ["{}", "a.png", "b.png"]),
    "pictures": (translate, ["{trained}", "{}", "out", "direction=a_to_b"]),
    "a place": (translate, ["{trained}", "{photos}", "{}", "direction=a_to_b"]),
    "a mask": (translate, ["{trained}", "{photos}", "out", "direction=a_to_b", "mask={}"]),
    "a run to export": (export, ["{}"]),
    "a bundle": (export, ["{trained}", "out={}", "direction=a_to_b"]),
    "a comparison": (compare, ["{}", "{}"]),
    "a preference": (preference, ["{}", "{}"]),
    "a repetition": (repeated, ["{}", "{}"]),
    "a summary": (summarise, ["{}", "{}"]),
    "the doctor": (doctor, ["{}"]),
}


@pytest.mark.parametrize("word", LONG, ids=["a name", "a path", "at home"])
@pytest.mark.parametrize("place", EXPECTED)
def test_a_word_that_is_no_path_is_refused_in_a_short_line(place, word, trained, photos, tmp_path):
    command, words = EXPECTED[place]
    known = {"trained": trained, "photos": photos, "run": tmp_path / "run"}
    code, line = call(command, *(w.format(word, **known) for w in words))
    assert code == 2
    assert (
        place not in ("run", "data.root", "data.cache", "init_from", "inception")
        or f"{place}=" in line
    )
    assert len(line.splitlines()) == 1 and len(line) < 200, line


def test_a_path_is_what_a_shell_makes_of_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert named_path("~/a") == Path("/home/somebody/a")
    assert named_path("~no-such-user/a") == Path("~no-such-user/a")  # no name of a user: a folder's
    assert named_path("") == Path()
    with pytest.raises(UserError, match="no path"):
        named_path("a\0b")


@pytest.mark.parametrize("word", LONG)
def test_the_program_beside_a_bundle_refuses_them_too(word):
    with pytest.raises(run_onnx.Mistake, match="too long"):
        run_onnx.named_path(word)
