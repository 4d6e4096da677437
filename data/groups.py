"""Group files that belong together (slices of a patient, frames of a clip), and hold groups out."""

import csv
import hashlib
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from common.files import read_text
from common.user_paths import parse_path

SERIES = r"^(.*?)[-_ ]*\d+\.\w+$"  # the name of a file without its number
MIN_SERIES = 5  # files of a source, on average
TABLE = re.compile(r"(?P<path>.+\.(?:csv|tsv)):(?P<column>[^:]+)", re.IGNORECASE)


def choose_held_out(
    files: Sequence[Path], folder: Path, fraction: float, group: str = ""
) -> set[Path]:
    """Return the files of a domain in `folder` that data.validation=`fraction` holds out.

    Files are ranked by the hash of their name, independent of the seed, so that adding a file
    changes the choice of few others. With `group` (data.group), whole groups are ranked by the hash
    of theirs.
    """
    count = round(fraction * len(files))
    if not count:
        return set()
    if not group:
        return set(sorted(files, key=lambda file: _hash(file, folder))[:count])
    groups: dict[str, list[Path]] = {}
    for file, name in group_names(files, folder, group).items():
        groups.setdefault(name, []).append(file)
    held_out: set[Path] = set()
    for name in sorted(groups, key=lambda name: hashlib.sha256(os.fsencode(name)).digest()):
        if len(held_out) >= count:
            break
        held_out.update(groups[name])
    return held_out


def group_names(files: Sequence[Path], folder: Path, group: str) -> dict[Path, str]:
    """Return file -> the name of its group.

    `group` is a regular expression, or FILE.csv:COLUMN, a table whose first column has the names of
    the files. UserError where the table cannot be read or lacks a file.
    """
    if (table := TABLE.fullmatch(group)) is None:
        return {file: group_of(_name(file, folder), group) for file in files}
    column, option = table["column"], "data.group"
    path = parse_path(table["path"], option)
    names = _read_table(path, column)
    missing = [f for f in files if _name(f, folder) not in names and f.name not in names]
    if missing:
        raise UserError(
            f"data.group: {path} has no row for {len(missing)} files, such as "
            f"{_name(missing[0], folder)}; its first column names files in {folder}",
            option=option, path=path,
        )  # fmt: skip
    found = {file: names.get(_name(file, folder), names.get(file.name, "")) for file in files}
    return {file: name or f"\0{file}" for file, name in found.items()}  # an empty cell: no group


def group_of(path: str, pattern: str) -> str:
    """Return the group of a path in its folder: the matched parts in (), or the whole match.

    A path that does not match is a group of its own.
    """
    match = re.search(pattern, path)
    if match is None:
        return f"\0{path}"
    return "\0".join(part or "" for part in match.groups()) if match.groups() else match[0]


def count_series(files: Sequence[Path], folder: Path) -> int:
    """Return how many sources the names look like slices or frames of; 0: they do not."""
    sources = {group_of(_name(file, folder), SERIES) for file in files}
    is_series = 2 <= len(sources) <= len(files) / MIN_SERIES
    return len(sources) if is_series else 0


def matches_any(files: Sequence[Path], folder: Path, group: str) -> bool:
    """Return whether data.group groups any of these files; a table lists them all."""
    is_table = TABLE.fullmatch(group) is not None
    return is_table or any(re.search(group, _name(file, folder)) for file in files)


def _read_table(path: Path, column: str) -> dict[str, str]:
    """Return file -> value of a column; UserError where the table cannot be read or lacks it."""
    try:
        text = read_text(path).removeprefix("\ufeff")
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not a text table"
        raise UserError(
            f"data.group: {path} cannot be read ({reason})", option="data.group", path=path
        ) from None
    if not rows or column not in rows[0]:
        columns = ", ".join(rows[0][:8]) if rows else "none"
        raise UserError(
            f"data.group: {path} has no column '{column}'; its columns are {columns}",
            option="data.group", path=path,
        )  # fmt: skip
    place = rows[0].index(column)
    return {
        os.path.normpath(row[0].strip().replace("\\", "/")): row[place].strip()
        for row in rows[1:]
        if len(row) > place
    }


def _name(file: Path, folder: Path) -> str:
    path, start = os.fspath(file), os.path.join(folder, "")
    return path[len(start) :] if path.startswith(start) else os.fspath(file.relative_to(folder))


def _hash(file: Path, folder: Path) -> bytes:
    return hashlib.sha256(os.fsencode(_name(file, folder))).digest()
