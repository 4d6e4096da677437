"""Find the image files of each domain and split, in the layouts that people use."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from errors import UserError
from paths import named_path

SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff",
    ".gif", ".ppm", ".pgm", ".pnm", ".pfm", ".avif", ".npy",
])  # fmt: skip

BadImages = Literal["error", "skip"]
MOST_CHANNELS = 4096
MOST_KEPT = 100_000
MOST_PIXELS = 32_766  # on a side: what OpenCV, which resizes, can address

Fit = Literal["stretch", "short_side", "crop"]
Pairs = Literal["auto", "none", "forward", "both"]
Item = TypeVar("Item")


@dataclass(frozen=True)
class DataConfig:
    """Where the images are and what is done to them on the way to a batch."""

    root: str = ""  # folder with trainA, trainB, testA, testB, or train/<domain>, test/<domain>
    domains: list[str] = field(default_factory=lambda: ["a", "b"])  # their names, in that order
    train: dict[str, str] = field(default_factory=dict)  # a folder per domain, instead of root's
    test: dict[str, str] = field(default_factory=dict)  # the same for the held-out images
    channels: list[int] = field(default_factory=lambda: [3])  # 1 grey, 3 RGB; or [1,3], one each
    fit: Fit = "stretch"  # stretch to a square, short_side keeps the aspect, crop leaves the size
    load_size: int = 286  # pixels images are resized to before the crop (not with fit=crop)
    crop_size: int = 256  # pixels of the random square that is trained on
    progressive: list[int] = field(default_factory=list)  # crops that grow, as [64,128,256]
    flip: bool = True  # mirror half of the images left to right
    rotate: float = 0.0  # turn by up to so many degrees, reflecting at the border
    colour_jitter: float = 0.0  # vary brightness, contrast and saturation by up to this share
    workers: int = 2  # processes that read images; 0 reads in the training process
    pairs: Pairs = "auto"  # held-out files of one name show one scene: none, forward (a to b), both
    keep: float = 2.0  # GB of memory for decoded images, from which later passes read; 0 for none
    cache: str = ""  # keep decoded, resized images in this folder: reading is faster from then on
    resident: bool = False  # keep them in the device's memory instead: for sets that fit
    validation: float = 0.0  # share of the training images kept out, to choose the best checkpoint
    bad_images: BadImages = "error"  # skip leaves out one in a hundred, found before the start
    limit: int = 0  # use only the first so many images of each folder; 0 uses all

    def __post_init__(self) -> None:
        for name in self.domains:
            if (
                not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*(_[A-Za-z0-9-]+)*", name)
                or "_to_" in name
            ):
                raise UserError(
                    f"data.domains: '{name}' is no domain name; use letters, digits, - and single _"
                )
        if len(set(self.domains)) != len(self.domains) or len(self.domains) < 2:
            raise UserError(f"data.domains must be 2 or more different names, got {self.domains}")
        if len(self.channels) not in (1, len(self.domains)) or not all(
            0 < count <= MOST_CHANNELS for count in self.channels
        ):
            raise UserError(
                f"data.channels must be one number of 1 to {MOST_CHANNELS}, or one for each domain, "
                f"got {str(self.channels)[:60]}"
            )
        for option, folders in (("train", self.train), ("test", self.test)):
            for name in folders:
                if name not in self.domains:
                    known = ", ".join(f"data.{option}.{domain}" for domain in self.domains)
                    raise UserError(f"data.{option}.{name}: no such domain; this run has {known}")
        for option in ("load_size", "crop_size"):
            if not 1 <= getattr(self, option) <= MOST_PIXELS:
                raise UserError(
                    f"data.{option} must be 1 to {MOST_PIXELS}, got {getattr(self, option)}"
                )
        if self.fit != "crop" and self.crop_size > self.load_size:
            raise UserError(
                f"data.crop_size={self.crop_size} is larger than data.load_size={self.load_size}; "
                "raise the load size or lower the crop"
            )
        grown = self.progressive and (
            self.progressive != sorted(set(self.progressive))
            or self.progressive[0] < 1
            or self.progressive[-1] != self.crop_size
        )
        if grown:
            raise UserError(
                f"data.progressive must rise to data.crop_size={self.crop_size}, "
                f"got {str(self.progressive)[:60]}"
            )
        for option in ("rotate", "colour_jitter", "workers", "limit"):
            if getattr(self, option) < 0:
                raise UserError(f"data.{option} must be 0 or more, got {getattr(self, option)}")
        if not 0 <= self.keep <= MOST_KEPT:
            raise UserError(f"data.keep must be 0 to {MOST_KEPT} GB, got {self.keep}")
        if self.colour_jitter and not set(self.channels) <= {1, 3}:
            raise UserError("data.colour_jitter works on grey and RGB images only; set it to 0")
        if not 0 <= self.validation < 1:
            raise UserError(
                f"data.validation must be at least 0 and below 1, got {self.validation}"
            )
        if self.rotate > 180 or self.colour_jitter >= 1:
            raise UserError("data.rotate must be at most 180 and data.colour_jitter below 1")

    def crops(self) -> list[int]:
        """Return the sides of the squares that are trained on, one after the other."""
        return self.progressive or [self.crop_size]

    def channels_of(self) -> dict[str, int]:
        """Return domain name -> channel count, in the order of the domains."""
        counts = self.channels * (len(self.domains) if len(self.channels) == 1 else 1)
        return dict(zip(self.domains, counts, strict=True))


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


def absolute(config: DataConfig) -> DataConfig:
    """Return the options with every folder as an absolute path: they mean the same from anywhere."""

    def resolved(folder: str, option: str) -> str:
        return os.path.abspath(named_path(folder, f"data.{option}")) if folder else folder

    folders = {
        split: {d: resolved(f, f"{split}.{d}") for d, f in getattr(config, split).items()}
        for split in ("train", "test")
    }
    return replace(
        config, root=resolved(config.root, "root"), cache=resolved(config.cache, "cache"), **folders
    )


def folder_of(config: DataConfig, split: Literal["train", "test"], domain: str) -> Path:
    """Return the folder of a domain: the explicit one, root/trainA, root/train/<domain> or /A."""
    explicit: Mapping[str, str] = getattr(config, split)
    option = f"data.{split}.{domain}"
    if domain in explicit:
        if not explicit[domain]:
            raise UserError(f"{option} is empty; name a folder")
        folder = named_path(explicit[domain], option)
        if not folder.is_dir():
            raise UserError(f"{option}: no such folder: {folder}")
        return folder
    if not config.root:
        raise UserError(f"no images: set data.root=FOLDER, or {option}=FOLDER for every domain")
    root = named_path(config.root, "data.root")
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
    files = sorted((path for path, reason in walk(folder) if not reason), key=os.fsencode)
    if not files:
        raise UserError(
            f"{folder}: no images in this folder ({' '.join(sorted(SUFFIXES)[:6])} ...)"
        )
    return [Path(file) for file in files[: limit or None]]


def walk(folder: Path) -> Iterator[tuple[str, str]]:
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


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` items, evenly spread over all, in their order."""
    kept = min(count, len(items))
    return [items[number * len(items) // kept] for number in range(kept)]
