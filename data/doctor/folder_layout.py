"""Find the domains and splits in a folder, their images, and the files that are ignored."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from data.folders import SUFFIXES, files_in, scan_files


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

    Two folders of images side by side in `root`, such as photos and paintings, are two domains.

    `folders` maps (split, domain) to explicit folders. UserError if there is no image at all, or a
    folder does not exist.
    """
    by_set = dict(folders or {})
    if root is not None:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder", path=root)
        found = _folders_below(root) or _two_side_by_side(root)
        by_set = {**found, **by_set} or {("", root.resolve().name or "images"): root}
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


def layout_text(root: Path | None, sets: Sequence[ImageSet]) -> str:
    """Return in a few words which layout was found, and how to say that it is another one."""
    if root is None:
        return "the folders that you named"
    if not sets[0].split:
        return "one set of images; for two domains name two folders: data.train.NAME=FOLDER"
    names = ", ".join(os.fspath(each.folder.relative_to(root)) for each in sets)
    if has_training_layout(root, sets):
        return f"a data set with {names}"
    return f"two folders side by side, {names}: one domain each"


def has_training_layout(root: Path, sets: Sequence[ImageSet]) -> bool:
    """Return whether data.root=`root` names the folders of all sets."""
    known = set(_folders_below(root).values())
    return all(each.folder in known for each in sets)


def _two_side_by_side(root: Path) -> dict[tuple[str, str], Path]:
    """Return ("train", name) -> folder if `root` has no images of its own but in two folders."""
    entries = [e for e in os.scandir(root) if not e.name.startswith((".", "__"))]
    if any(e.is_file() and Path(e.name).suffix.lower() in SUFFIXES for e in entries):
        return {}
    folders = sorted(Path(e.path) for e in entries if e.is_dir())
    folders = [folder for folder in folders if not any(folder.glob("*/options.yaml"))]  # no runs
    folders = [folder for folder in folders if _list_files(folder)[0]]
    return {("train", folder.name): folder for folder in folders} if len(folders) == 2 else {}


def _list_files(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return the images in a folder, and its other files with the reasons."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder", path=folder)
    ignored = sorted((Path(path), reason) for path, reason in scan_files(folder) if reason)
    try:
        return files_in(folder), ignored
    except UserError as error:  # a domain without images is a finding, like the others
        return [], [*ignored, (folder, str(error).removeprefix(f"{folder}: "))]
