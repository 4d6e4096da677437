"""A path as a person typed it."""

import errno
import os
from pathlib import Path

from errors import UserError

SHOWN = 60  # characters of a word that is no path
MOST = 3800  # bytes: what lies below a folder needs room in the 4096 of a system


def named_path(word: str | os.PathLike[str], option: str = "") -> Path:
    """Return the path that a word, or an option's value, means; nothing need be there.

    A ~ is read as a shell reads it. UserError where no file system could hold the path: it is too
    long, or has a byte of zero in it.
    """
    path = Path(os.path.expanduser(word))
    try:
        os.lstat(path)
        too_long = False
    except (OSError, ValueError) as error:
        too_long = isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG
    if too_long or len(os.fsencode(os.path.abspath(path))) > MOST:
        name = f"{option}=" if option else ""
        raise UserError(f"{name}{str(word)[:SHOWN]}... is no path: too long; name another")
    return path


def page_path(word: str | os.PathLike[str], option: str = "out") -> Path:
    """Return where a page may be written; UserError where something else than a page has its place."""
    path = named_path(word, option)
    if path.suffix.lower() not in (".html", ".htm") and (path.is_dir() or os.path.lexists(path)):
        raise UserError(
            f"{option}={word} is there and is no page; name a file, such as {option}=page.html"
        )
    if path.is_dir() or path.is_symlink():
        raise UserError(
            f"{option}={word} is a folder or a link; name a file, such as {option}=page.html"
        )
    return path
