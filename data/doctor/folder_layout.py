"""Find the domains and splits in a folder, their images, and the files that are ignored."""

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
    ignored: list[tuple[Path, str]]  # other files, and why they are not used

    @property
    def label(self) -> str:
        return f"{self.split}/{self.domain}" if self.split else self.domain


def find_sets(
    root: Path | None, folders: Mapping[tuple[str, str], Path] | None = None
) -> list[ImageSet]:
    """Return the sets below `root` in the layouts of training, or `root` itself as one set.

    `folders` maps (split, domain) to explicit folders. UserError if there is no image at all, or a
    folder does not exist.
    """
    by_set = dict(folders or {})
    if root is not None:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder", path=root)
        by_set = {**_folders_below(root), **by_set} or {("", root.resolve().name or "images"): root}
    sets = [
        ImageSet(split, domain, folder, *_list_files(folder))
        for (split, domain), folder in by_set.items()
    ]
    if not any(each.files for each in sets):
        files_in(sets[0].folder)  # raises UserError if the folder has no images
        raise UserError(f"{root}: no images in this folder", path=root or "")
    return sets


def display_name(path: Path, root: Path | None) -> str:
    """Return the path of a file relative to `root`, with unprintable characters replaced."""
    is_inside = root is not None and root in path.parents
    name = os.fsencode(path.relative_to(root) if root and is_inside else path).decode(
        "utf-8", "replace"
    )
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def _folders_below(root: Path) -> dict[tuple[str, str], Path]:
    """Return (split, domain) -> folder for trainA, train/A, train_A, or else train/<domain>."""
    found: dict[tuple[str, str], Path] = {}
    for split in ("train", "test"):
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            names = (f"{split}{letter}", f"{split}/{letter}", f"{split}_{letter}")
            folder = next((root / name for name in names if (root / name).is_dir()), None)
            if folder is None:
                break
            found[split, letter.lower()] = folder
        has_letters = any(key[0] == split for key in found)
        if not has_letters and (root / split).is_dir():
            for entry in sorted(os.scandir(root / split), key=lambda entry: entry.name):
                if entry.is_dir() and not entry.name.startswith((".", "__")):
                    found[split, entry.name] = root / split / entry.name
    return found


def _list_files(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return the images in a folder, and its other files with the reasons."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder", path=folder)
    ignored = sorted((Path(path), reason) for path, reason in scan_files(folder) if reason)
    try:
        return files_in(folder), ignored
    except UserError as error:  # a domain without images is a finding, like the others
        return [], [*ignored, (folder, str(error).removeprefix(f"{folder}: "))]
