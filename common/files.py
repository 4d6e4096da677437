"""Read regular files, write files atomically, and hash them."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from common.errors import RunError, UserError, one_line

UNFINISHED, STALE_FOLDER_SECONDS = ".partial", 3600
MAX_TEXT = 2**28  # bytes of a text file that is read: larger ones are not those of a run
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
        with contextlib.suppress(OSError):
            partial.unlink()  # of a killed process with the same number
        with open(partial, "xb") as file:  # never through a link
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
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
        cause: BaseException | None = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError | None):
            raise cause from None  # most often a dead loader worker: raised at any moment
        reason = f"{cause.strerror or one_line(cause, 80)}; " if cause else ""
        status = os.statvfs(path.parent)
        free = status.f_bavail * status.f_frsize
        full = cause.errno in DISK_FULL if cause else free < max(needed - written, 2**20)
        size = f"{needed / 1e6:.1f}" if needed > written else f"more than {written / 1e6:.1f}"
        raise RunError(
            f"{path}: could not be written{', disk full' if full else ''} ({reason}{size} MB "
            f"needed, {free / 1e6:.1f} MB free on the disk)"
        ) from None
    except BaseException:  # anything else that `write` raises, also KeyboardInterrupt
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def remove_leftover(folder: Path) -> None:
    """Delete an unfinished folder of an earlier command, or a file, pipe or link in its place."""
    if folder.is_dir() and not folder.is_symlink():
        remove_tree(folder, ignore_errors=True)
    elif os.path.lexists(folder):  # rmtree would wait for the writer of a pipe
        folder.unlink()


@contextlib.contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield a new, hidden folder beside a path, to be renamed to it when it is complete.

    What is left of it at the end is deleted, and so are those that killed commands left there more
    than an hour ago.
    """
    parent = Path(os.path.abspath(path)).parent
    parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{os.path.basename(os.path.abspath(path))[:100]}."
    for leftover in parent.glob(f"{glob.escape(prefix)}????????{UNFINISHED}"):
        if time.time() - leftover.stat().st_mtime > STALE_FOLDER_SECONDS:
            remove_leftover(leftover)
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=UNFINISHED, dir=parent))
    folder.chmod(0o777 & ~_umask())
    try:
        yield folder
    finally:
        remove_leftover(folder)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def remove_tree(folder: Path, ignore_errors: bool = False) -> None:
    """Delete a folder and what is in it; UserError if folders are nested too deeply."""
    try:
        shutil.rmtree(folder, ignore_errors=ignore_errors)
    except RecursionError:
        raise UserError(
            f"{folder}: folders are nested too deeply in it; remove it", path=folder
        ) from None


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder written to the disk; some file systems cannot do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def read_text(path: Path, errors: str = "strict") -> str:
    """Return the UTF-8 text of a regular file; OSError for anything else, such as a pipe.

    A pipe or a device in the place of a file would be waited for without end, and a file may claim
    any size without taking room on the disk: more than 256 MiB are refused.
    """
    with open(path, "rb", opener=regular_file) as file:
        if os.fstat(file.fileno()).st_size > MAX_TEXT:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read().decode("utf-8", errors)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; OSError as `read_text`, ValueError where it is damaged."""
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def not_through_a_link(path: str, flags: int) -> int:
    """Open a file for `open(opener=...)`; OSError if it is a link or a pipe."""
    return regular_file(path, flags | os.O_NOFOLLOW)


def regular_file(path: str, flags: int) -> int:
    """Open a file for `open(opener=...)`; OSError if it is a pipe, a device or a folder."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def file_sha256(path: Path) -> str:
    """Return a file's sha256, 64 hexadecimal digits; OSError if it cannot be read."""
    with open(path, "rb", opener=regular_file) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
