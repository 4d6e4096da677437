"""Find the image files of each domain and split, in the usual folder layouts."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from common.errors import UserError
from common.user_paths import parse_path
from data.config import DataConfig
from data.groups import TABLE, choose_held_out

SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff",
    ".gif", ".ppm", ".pgm", ".pnm", ".pfm", ".avif", ".npy",
])  # fmt: skip
Item = TypeVar("Item")


def find_split(
    config: DataConfig, split: Literal["train", "validation", "test"]
) -> dict[str, list[Path]]:
    """Return domain -> its sorted image files in `split`; UserError if a domain has none.

    `validation` is the fraction data.validation of the training images, which `train` leaves out.
    """
    if split == "test":
        return _files_of(config, split)
    train, validation = _train_and_validation(config)
    return validation if split == "validation" else train


def _train_and_validation(
    config: DataConfig,
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Return domain -> training images, and domain -> images that choose among checkpoints."""
    train, validation = {}, {}
    for domain, files in _files_of(config, "train").items():
        folder = folder_of(config, "train", domain)
        held_out = choose_held_out(files, folder, config.validation, config.group)
        validation[domain] = [file for file in files if file in held_out] if held_out else []
        train[domain] = [file for file in files if file not in held_out] if held_out else files
        if config.validation and not (train[domain] and validation[domain]):
            raise UserError(
                f"data.validation={config.validation} of {len(files)} images of {domain} leaves "
                "no image to train on or none to validate on; set it to 0, or add images",
                option="data.validation",
            )
    return train, validation


def held_out_split(config: DataConfig) -> Literal["test", "validation"]:
    """Return the split that a run is evaluated on: test, or validation where no test is named.

    One domain with test images is enough. UserError where there is neither.
    """
    missing: list[UserError] = []
    for domain in config.domains:
        try:
            folder_of(config, "test", domain)
            return "test"
        except UserError as error:
            if config.test:
                raise
            missing.append(error)
    if config.validation:
        return "validation"
    folders = " ".join(f"data.test.{domain}=FOLDER" for domain in config.domains)
    raise UserError(
        f"no held-out images: name them with {folders}; data.validation=0.1 holds out a tenth "
        "of the training images of a new run",
        option=missing[0].option, path=missing[0].path,
    )  # fmt: skip


def _files_of(config: DataConfig, split: Literal["train", "test"]) -> dict[str, list[Path]]:
    folders = {domain: folder_of(config, split, domain) for domain in config.domains}
    if len({folder.resolve() for folder in folders.values()}) < len(folders):
        raise UserError(
            f"data.{split}: two domains have the same folder {folders[config.domains[0]]}; "
            "name another folder for one of them",
            option=f"data.{split}", path=folders[config.domains[0]],
        )  # fmt: skip
    return {domain: files_in(folder, config.limit) for domain, folder in folders.items()}


def with_absolute_paths(config: DataConfig) -> DataConfig:
    """Return the options with absolute folders, which are valid in any working directory."""

    def absolute(folder: str, option: str) -> str:
        return os.path.abspath(parse_path(folder, f"data.{option}")) if folder else folder

    folders = {
        split: {d: absolute(f, f"{split}.{d}") for d, f in getattr(config, split).items()}
        for split in ("train", "test")
    }
    table = TABLE.fullmatch(config.group)
    group = f"{absolute(table['path'], 'group')}:{table['column']}" if table else config.group
    return replace(
        config,
        group=group,
        root=absolute(config.root, "root"),
        disk_cache=absolute(config.disk_cache, "disk_cache"),
        **folders,
    )


def folder_of(config: DataConfig, split: Literal["train", "test"], domain: str) -> Path:
    """Return the folder of a domain in a split.

    This is the folder in the option data.<split>.<domain>, or the first that exists of
    root/trainA, root/train/<domain>, root/train/A and root/train_A. UserError if there is none.
    """
    explicit: Mapping[str, str] = getattr(config, split)
    option = f"data.{split}.{domain}"
    if domain in explicit:
        if not explicit[domain]:
            raise UserError(f"{option} is empty; name a folder", option=option)
        folder = parse_path(explicit[domain], option)
        if not folder.is_dir():
            raise UserError(f"{option}: no such folder: {folder}", option=option, path=folder)
        return folder
    if not config.root:
        raise UserError(
            f"no images: set data.root=FOLDER, or {option}=FOLDER for every domain",
            option="data.root",
        )
    root = parse_path(config.root, "data.root")
    if not root.is_dir():
        hint = f"; download it with: python -m data.download {root.name}"
        raise UserError(
            f"data.root: no such folder: {root}{hint if root.parent.name == 'datasets' else ''}",
            option="data.root", path=root,
        )  # fmt: skip
    letter = chr(ord("A") + config.domains.index(domain))
    names = [f"{split}{letter}", f"{split}/{domain}", f"{split}/{letter}", f"{split}_{letter}"]
    for name in names:
        if (root / name).is_dir():
            return root / name
    existing = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    raise UserError(
        f"data.root={root} has no folder {names[0]} or {names[1]} "
        f"(it has {', '.join(existing[:6]) or 'none'}); rename a folder, or set {option}=FOLDER",
        option="data.root", path=root,
    )  # fmt: skip


_listings: ContextVar[dict[Path, list[Path]] | None] = ContextVar("listings", default=None)


@contextmanager
def listed_once() -> Iterator[None]:
    """Within, a folder is listed when it is first needed, and never again in this process.

    Listing a million files takes seconds. All parts of a command then also see the same files.
    """
    token = _listings.set(_listings.get() or {})
    try:
        yield
    finally:
        _listings.reset(token)


def files_in(folder: Path, limit: int = 0) -> list[Path]:
    """Return the image files below `folder`, sorted by the bytes of their paths; UserError if none.

    `limit` returns only the first ones; 0 means all.
    """
    listings = _listings.get()
    if listings is None:
        return _list_images(folder)[: limit or None]
    if folder not in listings:
        listings[folder] = _list_images(folder)
    return listings[folder][: limit or None]


def _list_images(folder: Path) -> list[Path]:
    found = [path for path, reason in scan_files(folder) if not reason]
    if all(map(str.isascii, found)):
        found.sort()  # the same order, without a copy of every name
    else:
        found.sort(key=os.fsencode)
    if not found:
        raise UserError(
            f"{folder}: no images in this folder (.jpg .png .tif .webp .npy and others)",
            path=folder,
        )
    return [Path(file) for file in found]


def scan_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each file below `folder` with the reason why it is not an image, or "" for an image.

    Hidden files are left out. Links are followed, and every real folder is entered once. UserError
    names a folder that cannot be read.
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
            raise UserError(
                f"{here}: cannot be read ({error.strerror}); check its permissions", path=here
            ) from None
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_symlink():
                # Unlike the methods of the entry, these do not raise an error for a link to itself.
                is_folder, is_file = os.path.isdir(entry.path), os.path.isfile(entry.path)
            else:  # the kind is part of the listing, so that no file needs a system call
                is_folder, is_file = entry.is_dir(follow_symlinks=False), entry.is_file()
            suffix = os.path.splitext(entry.name)[1]
            if is_folder:
                pending.append(entry.path)
            elif suffix.lower() not in SUFFIXES:
                yield entry.path, f"{suffix} is not an image format" if suffix else "no suffix"
            elif not is_file:
                yield entry.path, "broken link" if entry.is_symlink() else "not a regular file"
            else:
                yield entry.path, ""


def links_out_of(folder: Path) -> list[Path]:
    """Return the links in a folder and its real subfolders that lead out of it."""
    root, pending, found = os.path.realpath(folder), [os.fspath(folder)], []
    while pending:
        for entry in os.scandir(pending.pop()):
            if entry.is_symlink():  # known from the listing, without a system call
                target = os.path.realpath(entry.path)
                if os.path.commonpath([root, target]) != root:
                    found.append(Path(entry.path))
            elif entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
    return found


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` items, evenly spaced, in their order."""
    count = min(count, len(items))
    return [items[number * len(items) // count] for number in range(count)]
