"""Lock a run folder for one process, and keep what is written in it inside it."""

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import UserError
from common.run_main import print_line

LOCK = ".lock"
TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # what write_atomically calls its unfinished files
STALE_SECONDS = 600  # without a change: the writer of a temporary file was killed
FOLDERS = ("checkpoints", "previews", "test", "wandb", "export")  # that commands make in a run
FILES = re.compile(
    r"options\.yaml|data\.json|provenance\.json|code.*\.diff|metrics\.jsonl|wandb_id|skipped.*\.json"
)
"""The names of the files that commands write into a run."""
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # errors of a lock of another process


def refuse_links(run: Path) -> None:
    """Raise UserError where a folder or file of a run is a link, or of another kind.

    What is written through a link would replace something outside. The run folder itself may be a
    link, such as to a larger disk.
    """
    for name in FOLDERS:
        folder = run / name
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            what = "a link" if folder.is_symlink() else "not a folder"
            raise UserError(
                f"{folder} is {what}, and what is in it would be replaced; remove it, or link the "
                "whole run folder",
                path=folder,
            )
    for name in os.listdir(run) if run.is_dir() else ():
        file = run / name
        if FILES.fullmatch(name) and (file.is_symlink() or not file.is_file()):
            what = "a link" if file.is_symlink() else "not a regular file"
            raise UserError(f"{file} is {what}; remove it", path=file)


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Lock the run folder for this process; UserError if another process trains in it.

    The kernel releases the lock when the process ends, in whatever way. On a file system without
    locks a note is printed instead. UserError also for links in the folder (`refuse_links`).
    """
    refuse_links(run)
    with folder_lock(run, run / LOCK, "wait for it, or choose another run="):
        yield


@contextmanager
def folder_lock(run: Path, path: Path, advice: str) -> Iterator[None]:
    """Lock the file `path` in a run for this process; UserError if another process holds it."""
    lock = _open_lock(run, path)
    try:
        _acquire(lock, run, advice)
        _remove_stale(path.parent)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):  # nothing of value is in it
            os.close(lock)


def _remove_stale(folder: Path) -> None:
    """Remove the temporary files of writers that were killed, here and in the folders of a run.

    Another command may be writing in the run, so files that changed a moment ago stay.
    """
    for place in (folder, *(folder / name for name in FOLDERS)):
        if place.is_symlink() or not place.is_dir():
            continue
        for stale in place.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                is_old = time.time() - stale.stat().st_mtime > STALE_SECONDS
                if is_old and TEMPORARY.fullmatch(stale.name):
                    stale.unlink()


def _open_lock(run: Path, path: Path) -> int:
    """Return the descriptor of the lock file, which is never opened through a link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        lock = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path} is a link; remove it", option="run", path=path) from None
        raise UserError(
            f"run={run}: cannot be written ({error.strerror}); choose another folder",
            option="run", path=run,
        ) from None  # fmt: skip
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise UserError(f"{path} is not a regular file; remove it", option="run", path=path)
    return lock


def _acquire(lock: int, run: Path, advice: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            print_line(
                f"note: the file system of {run} has no locks ({error.strerror}); make sure that "
                "only one process writes in it"
            )
            return
        owner = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        raise UserError(
            f"{run} is in use by process {owner}; {advice}",
            option="run", path=run,
        ) from None  # fmt: skip
