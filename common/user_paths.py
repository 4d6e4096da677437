"""Parse and check the paths that a user types."""

import errno
import os
from pathlib import Path

from common.errors import UserError

MAX_SHOWN = 60  # characters of a word that is not a valid path
MAX_PATH_BYTES = 3800  # Linux allows 4096; files below a folder need the rest


def parse_path(word: str | os.PathLike[str], option: str = "") -> Path:
    """Return the path that a user typed, as a word or as the value of `option`; it need not exist.

    A leading ~ is expanded as in a shell. UserError if no file system could hold the path, because
    it is too long or contains a zero byte.
    """
    path, reason = Path(os.path.expanduser(word)), ""
    try:
        os.lstat(path)
    except ValueError:
        reason = "it contains a zero byte"
    except OSError as error:
        reason = "too long" if error.errno == errno.ENAMETOOLONG else ""
    if not reason and len(os.fsencode(os.path.abspath(path))) > MAX_PATH_BYTES:
        reason = "too long"
    if reason:
        name = f"{option}=" if option else ""
        raise UserError(
            f"{name}{str(word)[:MAX_SHOWN]}... is not a valid path: {reason}; choose another",
            option=option,
            path=word,
        )
    return path


def make_folder(path: Path, option: str) -> Path:
    """Create and return the folder that `option` names; UserError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{option}={path}: cannot be created ({error.strerror}); choose another folder",
            option=option,
            path=path,
        ) from None
    return path


def page_path(word: str | os.PathLike[str], option: str = "out") -> Path:
    """Return the path of an HTML page to write; UserError if anything but a page exists there."""
    path = parse_path(word, option)
    is_page = path.suffix.lower() in (".html", ".htm") and path.is_file()
    if path.is_symlink() or (path.exists() and not is_page):
        raise UserError(
            f"{option}={word} exists and is not an HTML page; name a file, such as page.html",
            option=option,
            path=path,
        )
    return path
