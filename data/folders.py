"""Find the image files of each domain and split, in the layouts that people use."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from common.errors import UserError
from common.user_paths import parse_path
from data.config import DataConfig

SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff",
    ".gif", ".ppm", ".pgm", ".pnm", ".pfm", ".avif", ".npy",
])  # fmt: skip


Item = TypeVar("Item")


def find_split(
    config: DataConfig, split: Literal["train", "validation", "test"]
) -> dict[str, list[Path]]:
    """Return domain -> its sorted image files in `split`; UserError where a domain has none.

    `validation` is the share data.validation of the training images, which `train` leaves out.
    """
    if split != "test":
        return _with_validation(config)[split == "validation"]
    return _files_of(config, split)


def _with_validation(config: DataConfig) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Return the images that are trained on, and those that choose among checkpoints.

    Which is which follows from a file's name alone: neither the seed nor another file moves it far.
    """
    train, validation = {}, {}
    for domain, files in _files_of(config, "train").items():
        folder = folder_of(config, "train", domain)

        def drawn(file: Path, folder: Path = folder) -> bytes:
            return hashlib.sha256(os.fsencode(file.relative_to(folder))).digest()

        count = round(config.validation * len(files))
        chosen = set(sorted(files, key=drawn)[:count])
        validation[domain] = [file for file in files if file in chosen]
        train[domain] = [file for file in files if file not in chosen]
        if config.validation and not (train[domain] and validation[domain]):
            raise UserError(
                f"data.validation={config.validation} of {len(files)} images of {domain} leaves "
                "no image on one side; set it to 0, or add images"
            )
    return train, validation


def _files_of(config: DataConfig, split: Literal["train", "test"]) -> dict[str, list[Path]]:
    folders = {domain: folder_of(config, split, domain) for domain in config.domains}
    if len({folder.resolve() for folder in folders.values()}) < len(folders):
        raise UserError(
            f"the {split} images of two domains are one folder: {folders[config.domains[0]]}"
        )
    return {domain: files_in(folder, config.limit) for domain, folder in folders.items()}


def with_absolute_paths(config: DataConfig) -> DataConfig:
    """Return the options with every folder as an absolute path: they mean the same from anywhere."""

    def resolved(folder: str, option: str) -> str:
        return os.path.abspath(parse_path(folder, f"data.{option}")) if folder else folder

    folders = {
        split: {d: resolved(f, f"{split}.{d}") for d, f in getattr(config, split).items()}
        for split in ("train", "test")
    }
    return replace(
        config,
        root=resolved(config.root, "root"),
        disk_cache=resolved(config.disk_cache, "disk_cache"),
        **folders,
    )


def folder_of(config: DataConfig, split: Literal["train", "test"], domain: str) -> Path:
    """Return the folder of a domain: the explicit one, root/trainA, root/train/<domain> or /A."""
    explicit: Mapping[str, str] = getattr(config, split)
    option = f"data.{split}.{domain}"
    if domain in explicit:
        if not explicit[domain]:
            raise UserError(f"{option} is empty; name a folder")
        folder = parse_path(explicit[domain], option)
        if not folder.is_dir():
            raise UserError(f"{option}: no such folder: {folder}")
        return folder
    if not config.root:
        raise UserError(f"no images: set data.root=FOLDER, or {option}=FOLDER for every domain")
    root = parse_path(config.root, "data.root")
    if not root.is_dir():
        fetch = f"; fetch it with: python -m data.download {root.name}"
        raise UserError(
            f"data.root: no such folder: {root}{fetch if root.parent.name == 'datasets' else ''}"
        )
    letter = chr(ord("A") + config.domains.index(domain))
    tried = [f"{split}{letter}", f"{split}/{domain}", f"{split}/{letter}", f"{split}_{letter}"]
    for name in tried:
        if (root / name).is_dir():
            return root / name
    found = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    raise UserError(
        f"data.root={root} has no folder {tried[0]} or {tried[1]} (it has {', '.join(found[:6]) or 'none'}); "
        f"or set {option}=FOLDER"
    )


def files_in(folder: Path, limit: int = 0) -> list[Path]:
    """Return the image files below `folder`, sorted by their path's bytes; UserError if none."""
    files = sorted((path for path, reason in scan_files(folder) if not reason), key=os.fsencode)
    if not files:
        raise UserError(
            f"{folder}: no images in this folder ({' '.join(sorted(SUFFIXES)[:6])} ...)"
        )
    return [Path(file) for file in files[: limit or None]]


def scan_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each file with why it is passed over, or "" for an image; hidden ones go unmentioned.

    Links to files are followed, and every real folder is entered once.
    """
    pending, entered = [os.fspath(folder)], set()
    while pending:
        here = pending.pop()
        real = os.path.realpath(here)
        if real in entered:
            continue
        entered.add(real)
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            raise UserError(f"{here}: cannot be read ({error.strerror})") from None
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_symlink():
                # Unlike an entry's own methods these raise nothing for a link to itself.
                is_folder, is_file = os.path.isdir(entry.path), os.path.isfile(entry.path)
            else:  # the listing says what it is: nothing is asked of each file
                is_folder, is_file = entry.is_dir(follow_symlinks=False), entry.is_file()
            suffix = os.path.splitext(entry.name)[1]
            if is_folder:
                pending.append(entry.path)
            elif suffix.lower() not in SUFFIXES:
                yield entry.path, f"{suffix or 'a name without suffix'} is no image's"
            elif not is_file:
                kind = "a link to nothing" if entry.is_symlink() else "not a regular file"
                yield entry.path, kind
            else:
                yield entry.path, ""


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` items, evenly spread over all, in their order."""
    kept = min(count, len(items))
    return [items[number * len(items) // kept] for number in range(kept)]
