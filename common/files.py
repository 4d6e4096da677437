"""Write files atomically, hash them, and lock a run folder."""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from common.errors import RunError, UserError, one_line

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], needed: int = 0) -> None:
    """Write `path` atomically: `write` fills a temporary file, which then replaces `path`.

    The data is on the disk before the name, and the name before this returns. A failed write leaves
    the old file and no other. UserError: `path` cannot be written at all. RunError: the write
    failed, most often because the disk is full; it names the bytes that are `needed`, if known, and
    the bytes that are free.
    """
    partial = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (PermissionError, NotADirectoryError, FileNotFoundError) as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another path", path=path
        ) from None
    except (OSError, RuntimeError) as error:
        written = 0
        with contextlib.suppress(OSError):
            written = partial.stat().st_size
            partial.unlink()
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{path}: the name is too long; rename the file", path=path) from None
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise  # not a disk error: torch's writer names its source file in those
        interruption = error.__context__
        if isinstance(error, RuntimeError) and not isinstance(interruption, OSError | None):
            raise interruption from None  # most often a dead loader worker: raised at any moment
        reason = f"{one_line(error, 80)}; " if isinstance(error, OSError) else ""
        full = not reason or getattr(error, "errno", 0) in DISK_FULL
        status = os.statvfs(path.parent)
        free = status.f_bavail * status.f_frsize
        size = f"{needed / 1e6:.1f}" if needed > written else f"more than {written / 1e6:.1f}"
        raise RunError(
            f"{path}: could not be written{', disk full' if full else ''} ({reason}{size} MB "
            f"needed, {free / 1e6:.1f} MB free on the disk)"
        ) from None
    except BaseException:  # anything else that `write` raises, also KeyboardInterrupt
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def file_sha256(path: Path) -> str:
    """Return a file's sha256, 64 hexadecimal digits; OSError if it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Lock the run folder for this process; UserError if another process trains in it.

    The kernel releases the lock when the process ends, in whatever way.
    """
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(open(run / ".lock", "a+"))
        except OSError as error:
            raise UserError(
                f"run={run}: cannot be written ({error.strerror}); choose another folder",
                option="run",
                path=run,
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held by another process (or the file system has no locks)
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise UserError(
                f"{run} is in use by process {owner}; wait for it, or choose another run=",
                option="run",
                path=run,
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
