"""A path as a person typed it."""

import errno
import os
from pathlib import Path

from errors import UserError

SHOWN = 60  # characters of a word that is no path


def named_path(word: str | os.PathLike[str]) -> Path:
    """Return the path that a word means, with ~ as a shell reads it; nothing need be there.

    UserError where no file system could hold it: it is too long, or has a byte of zero in it.
    """
    path = Path(os.path.expanduser(word))
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise UserError(
                f"{str(word)[:SHOWN]}... is no path: too long, or not text; name another"
            ) from None
    return path
