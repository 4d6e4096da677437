"""Hostile checkpoints, places, names and downloads: a few cases, and faults that would be noticed."""

import pytest

from common import files, run_folder, run_main
from data import download
from reliability.command_in_child import run_in_child
from reliability.hostile import __main__ as hostile
from reliability.hostile import checkpoints, downloads, names, places


def outcomes(kind, folder, wanted, count=0, seed=0):
    """Run the cases whose name holds one of the wanted texts; return name -> problem."""
    found = {}
    for name, check in kind.cases(folder, count, seed):
        if any(text in name for text in wanted):
            found[name] = check()
    return found


def test_a_download_of_each_kind_is_refused_and_then_succeeds(tmp_path):
    wanted = ("body without end", "length of a terabyte", "redirect to a file", "name above", "bomb",
              "names for a terminal", "sticky", "file and folder of one name")  # fmt: skip
    found = outcomes(downloads, tmp_path, wanted)
    assert len(found) == len(wanted) and not any(found.values()), found


def test_a_download_that_leaves_its_folder_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_check_members", lambda *_: None)
    assert "outside" in outcomes(downloads, tmp_path, ["name above"])["name above"]


def test_time_memory_and_a_traceback_of_a_command_are_noticed(monkeypatch):
    def fails(_):
        raise ValueError("a bug")

    monkeypatch.setattr("reliability.command_in_child.SECONDS", 0.3)
    assert "traceback" in run_in_child(fails, []).problem
    assert "took" in run_in_child(lambda _: __import__("time").sleep(10), []).problem
    monkeypatch.setattr("reliability.command_in_child.SECONDS", 30)
    monkeypatch.setattr("reliability.command_in_child.MEGABYTES", 50)
    assert "MB" in run_in_child(lambda _: len(b"x" * 200_000_000) and 0, []).problem
    assert run_in_child(lambda _: 0, []).problem == ""
    assert "without a line" in run_in_child(lambda _: 2, []).problem


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["checkpoints", "places", "names", "downloads"])
def test_a_campaign_passes(kind, capsys):
    assert hostile.main([kind, "--count", "40"]) == 0
    assert ", 0 failed" in capsys.readouterr().out


@pytest.mark.slow
def test_a_name_that_reaches_the_terminal_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(run_main, "EscapingStream", lambda stream: stream)
    for module in ("errors", "progress", "terminal"):
        monkeypatch.setattr(f"common.{module}.printable", lambda text, keep="": text)
    found = outcomes(names, tmp_path, ["doctor", "train", "test", "translate"])
    assert any("control character" in problem for problem in found.values()), found


@pytest.mark.slow
def test_a_command_that_follows_links_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "refuse_links", lambda _: None)

    def write(path, content, needed=0):
        with open(path, "wb") as file:
            content(file)

    monkeypatch.setattr(files, "write_atomically", write)
    for module in ("engine.checkpoint", "engine.provenance_files"):
        monkeypatch.setattr(f"{module}.write_atomically", files.write_atomically)
    found = outcomes(places, tmp_path, ["data.json, link", "provenance.json, link"])
    assert any("outside changed" in problem for problem in found.values()), found


@pytest.mark.slow
def test_content_that_is_not_checked_is_noticed(tmp_path, monkeypatch):
    for module in ("inference.open_run", "engine.checkpoint", "training.save_and_restore"):
        for name in ("check_content", "check_sizes", "check_tensors"):
            monkeypatch.setattr(f"{module}.{name}", lambda *_: None, raising=False)
    found = outcomes(checkpoints, tmp_path, [": "], count=25)
    assert any(found.values())
