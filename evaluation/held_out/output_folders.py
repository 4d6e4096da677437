"""Replace the translations of an earlier evaluation, and nothing else."""

import json
import os
from pathlib import Path

from common.errors import RunError, UserError
from common.files import read_json, remove_tree, write_text
from data.folders import SUFFIXES


def make_empty_folder(folder: Path) -> None:
    """Make a new folder in the place of an unfinished one; UserError as `check_replaceable`."""
    check_replaceable(folder)
    remove_tree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def check_replaceable(folder: Path) -> None:
    """Raise UserError if there is something else than a folder in the place of a folder."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "a link, which is not followed" if folder.is_symlink() else "not a folder"
        raise UserError(f"{folder} is {what}; remove it", path=folder)


def replace_folder(finished: Path, target: Path) -> None:
    """Put a finished folder in the place of `target`, whose earlier translations are deleted.

    Files in `target` that test.py has not written are kept. UserError if `target` is a link.
    RunError if the disk refuses it.
    """
    check_replaceable(target)
    try:
        _replace(finished, target)
    except OSError as error:
        raise RunError(
            f"{target}: could not be replaced ({error.strerror}); the translations are in "
            f"{finished}, and the same command makes them again"
        ) from None


def _replace(finished: Path, target: Path) -> None:
    written = sorted(_names(finished))
    if target.is_dir():
        ours = _written_before(target)
        for name in _names(target):
            kept = finished / name
            if name not in ours and not os.path.lexists(kept):
                kept.parent.mkdir(parents=True, exist_ok=True)
                os.replace(target / name, kept)
        remove_tree(target)
    write_text(record_of(target), json.dumps(written) + "\n")
    finished.rename(target)


def record_of(folder: Path) -> Path:
    """Return the file, beside a folder of translations, with the names of those of test.py."""
    return folder.with_name(f".{folder.name}.json")


def _written_before(folder: Path) -> set[str]:
    """Return the names that test.py wrote; of an earlier version, those of all pictures."""
    try:
        return set(map(str, read_json(record_of(folder))))
    except (OSError, ValueError, TypeError):
        return {name for name in _names(folder) if Path(name).suffix.lower() in SUFFIXES}


def _names(folder: Path) -> list[str]:
    """Return the names of all files below a folder, relative to it; no link is followed."""
    found = []
    for here, folders, files in os.walk(folder, followlinks=False):
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]
        found += [os.path.relpath(os.path.join(here, name), folder) for name in (*files, *links)]
    return found
