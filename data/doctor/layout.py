"""Find the domains and splits that a folder holds, and the files in it that are no images."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from data.folders import files_in, scan_files


@dataclass(frozen=True)
class ImageSet:
    """The images of one domain in one split; a plain folder has no split."""

    split: str  # train, test or ""
    domain: str
    folder: Path
    files: list[Path]
    passed_over: list[tuple[Path, str]]  # file, and why it is not among them

    @property
    def label(self) -> str:
        return f"{self.split}/{self.domain}" if self.split else self.domain


def find_sets(
    root: Path | None, folders: Mapping[tuple[str, str], Path] | None = None
) -> list[ImageSet]:
    """Return the sets below `root` in the layouts that training knows, else `root` as one set.

    `folders` maps (split, domain) to folders that are given one by one. UserError where there is
    no image at all, or a folder is not there.
    """
    found = dict(folders or {})
    if root is not None:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder")
        found = {**_below(root), **found} or {("", root.resolve().name or "images"): root}
    sets = [
        ImageSet(split, domain, folder, *_listed(folder))
        for (split, domain), folder in found.items()
    ]
    if not any(each.files for each in sets):
        files_in(sets[0].folder)  # says what is missing
        raise UserError(f"{root}: no images in this folder")
    return sets


def shown(path: Path, root: Path | None) -> str:
    """Return a file's name below `root` as a person can read it: control characters replaced."""
    inside = root is not None and root in path.parents
    name = os.fsencode(path.relative_to(root) if root and inside else path).decode(
        "utf-8", "replace"
    )
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def _below(root: Path) -> dict[tuple[str, str], Path]:
    found: dict[tuple[str, str], Path] = {}
    for split in ("train", "test"):
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            names = (f"{split}{letter}", f"{split}/{letter}", f"{split}_{letter}")
            folder = next((root / name for name in names if (root / name).is_dir()), None)
            if folder is None:
                break
            found[split, letter.lower()] = folder
        named = any(key[0] == split for key in found)
        if not named and (root / split).is_dir():
            for entry in sorted(os.scandir(root / split), key=lambda entry: entry.name):
                if entry.is_dir() and not entry.name.startswith((".", "__")):
                    found[split, entry.name] = root / split / entry.name
    return found


def _listed(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    passed_over = sorted((Path(path), reason) for path, reason in scan_files(folder) if reason)
    try:
        return files_in(folder), passed_over
    except UserError as error:  # an empty domain is something to report, beside the others
        return [], [*passed_over, (folder, str(error).removeprefix(f"{folder}: "))]
