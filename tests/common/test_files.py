"""Files are read and written as what they are: no link is followed, no pipe is waited for."""

import errno
import os

import pytest

from common import files, run_folder
from common.errors import RunError, UserError
from common.files import (
    not_through_a_link,
    read_json,
    read_text,
    remove_leftover,
    write_text,
)
from common.run_folder import FOLDERS, refuse_links, run_lock
from tests.conftest import raises_user_error


def failing(number: int):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_lock_that_is_a_link_or_a_pipe_is_refused_and_nothing_is_truncated(tmp_path):
    precious, run = tmp_path / "precious.txt", tmp_path / "run"
    precious.write_text("years of work")
    run.mkdir()
    (run / ".lock").symlink_to(precious)
    with raises_user_error(path=run / ".lock"), run_lock(run):
        pass
    assert precious.read_text() == "years of work"
    (run / ".lock").unlink()
    os.mkfifo(run / ".lock")
    with raises_user_error(path=run / ".lock"), run_lock(run):
        pass


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_in_a_run_that_is_a_link_is_refused(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(tmp_path / "elsewhere")
    with raises_user_error(path=run / name), run_lock(run):
        pass
    linked = tmp_path / "linked"  # the run itself may be a link
    linked.symlink_to(tmp_path / "elsewhere")
    refuse_links(linked)


@pytest.mark.parametrize(
    "name", ["wandb_id", "metrics.jsonl", "code_00000004.diff", "options.yaml"]
)
@pytest.mark.parametrize("make", [
    lambda path, outside: path.symlink_to(outside), lambda path, _: os.mkfifo(path),
    lambda path, _: path.mkdir(),
], ids=["link", "pipe", "folder"])  # fmt: skip
def test_a_file_of_a_run_that_is_a_link_a_pipe_or_a_folder_is_refused(tmp_path, name, make):
    (tmp_path / "outside").write_text("years of work")
    run = tmp_path / "run"
    run.mkdir()
    make(run / name, tmp_path / "outside")
    with raises_user_error(path=run / name), run_lock(run):
        pass
    (run / name).rename(run / "my notes.txt")  # a name that no command writes
    refuse_links(run)


def test_a_leftover_is_deleted_whatever_it_is(tmp_path):
    (tmp_path / "outside").mkdir()
    leftover = tmp_path / "x.partial"
    for make in (leftover.mkdir, leftover.touch, lambda: os.mkfifo(leftover),
                 lambda: leftover.symlink_to(tmp_path / "outside"), lambda: None):  # fmt: skip
        make()
        remove_leftover(leftover)
        assert not os.path.lexists(leftover) and (tmp_path / "outside").is_dir()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys, number):
    (tmp_path / ".lock").write_text("12345")  # of a process that ended long ago
    monkeypatch.setattr(run_folder.fcntl, "flock", failing(number))
    with run_lock(tmp_path):
        pass
    assert "has no locks" in capsys.readouterr().out
    monkeypatch.setattr(run_folder.fcntl, "flock", failing(errno.EWOULDBLOCK))
    with pytest.raises(UserError, match="in use by process"), run_lock(tmp_path):
        pass


def test_a_lock_that_cannot_be_closed_is_no_error(tmp_path, monkeypatch):
    close = os.close

    def closed(descriptor):
        close(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    with run_lock(tmp_path):
        monkeypatch.setattr(run_folder.os, "close", closed)
    monkeypatch.undo()


def test_what_killed_writers_left_is_removed_and_what_others_write_is_not(tmp_path):
    (tmp_path / "test").mkdir()
    killed = [tmp_path / ".options.yaml.123.tmp", tmp_path / "test" / ".metrics.json.99.tmp"]
    kept = [tmp_path / ".metrics.jsonl.7.tmp", tmp_path / ".mine.tmp", tmp_path / "notes.tmp"]
    for path in (*killed, *kept):
        path.touch()
    for path in (*killed, *kept[1:]):
        os.utime(path, (1, 1))
    with run_lock(tmp_path):
        assert not any(path.exists() for path in killed)
        assert all(path.exists() for path in kept)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_folder_that_cannot_be_synchronized_is_one_line(tmp_path, monkeypatch, number):
    monkeypatch.setattr(files, "_sync_folder", failing(number))
    with pytest.raises(RunError) as error:
        write_text(tmp_path / "x.json", "{}")
    assert ("disk full" in str(error.value)) == (number == errno.ENOSPC)
    assert os.strerror(number) in str(error.value) and str(tmp_path / "x.json") in str(error.value)


def test_a_file_system_that_cannot_synchronize_folders_is_used(tmp_path, monkeypatch):
    fsync = os.fsync

    def refused(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", refused)
    write_text(tmp_path / "x.json", "{}")
    assert read_json(tmp_path / "x.json") == {}


def test_a_write_replaces_a_link_and_not_what_it_points_to(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("years of work")
    link = tmp_path / "options.yaml"
    link.symlink_to(precious)
    stale = tmp_path / f".options.yaml.{os.getpid()}.tmp"
    stale.symlink_to(precious)  # the name of the temporary file can be guessed
    write_text(link, "seed: 1\n")
    assert precious.read_text() == "years of work"
    assert not link.is_symlink() and link.read_text() == "seed: 1\n"


def test_pipes_folders_and_deep_json_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match="not a regular file|directory"):
            read_text(path)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "deep.json")
    (tmp_path / "log").symlink_to(tmp_path / "deep.json")
    with pytest.raises(OSError, match="symbolic links"):
        not_through_a_link(str(tmp_path / "log"), os.O_WRONLY)
