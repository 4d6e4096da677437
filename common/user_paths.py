"""A path as a person typed it."""

import errno
import os
from pathlib import Path

from common.errors import UserError

MAX_SHOWN = 60  # characters of a word that is no path
MAX_PATH_BYTES = 3800  # bytes: what lies below a folder needs room in the 4096 of a system


def parse_path(word: str | os.PathLike[str], option: str = "") -> Path:
    """Return the path that a word, or an option's value, means; nothing need be there.

    A ~ is read as a shell reads it. UserError where no file system could hold the path: it is too
    long, or has a byte of zero in it.
    """
    path, reason = Path(os.path.expanduser(word)), ""
    try:
        os.lstat(path)
    except ValueError:
        reason = "it has a byte of zero"
    except OSError as error:
        reason = "too long" if error.errno == errno.ENAMETOOLONG else ""
    if not reason and len(os.fsencode(os.path.abspath(path))) > MAX_PATH_BYTES:
        reason = "too long"
    if reason:
        name = f"{option}=" if option else ""
        raise UserError(f"{name}{str(word)[:MAX_SHOWN]}... is no path: {reason}; name another")
    return path


def make_folder(path: Path, option: str) -> Path:
    """Return the folder that an option names, made where it is missing; UserError where it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{option}={path}: cannot be made ({error.strerror}); name another"
        ) from None
    return path


def page_path(word: str | os.PathLike[str], option: str = "out") -> Path:
    """Return where a page may be written; UserError where something else than a page has its place."""
    path = parse_path(word, option)
    is_page = path.suffix.lower() in (".html", ".htm") and path.is_file()
    if path.is_symlink() or (path.exists() and not is_page):
        raise UserError(f"{option}={word} is there and is no page; name a file, such as page.html")
    return path
