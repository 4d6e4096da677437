"""A path as a person typed it."""

import errno
import os
from pathlib import Path

from errors import UserError

SHOWN = 60  # characters of a word that is no path


def named_path(word: str | os.PathLike[str], option: str = "") -> Path:
    """Return the path that a word, or an option's value, means; nothing need be there.

    A ~ is read as a shell reads it. UserError where no file system could hold the path: it is too
    long, or has a byte of zero in it.
    """
    path = Path(os.path.expanduser(word))
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            name = f"{option}=" if option else ""
            raise UserError(
                f"{name}{str(word)[:SHOWN]}... is no path: too long; name another"
            ) from None
    return path
