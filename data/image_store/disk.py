"""Cache decoded training images on disk, in one memory-mapped file per domain."""

import fcntl
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from common.errors import RunError, UserError, one_line
from common.files import read_json, write_atomically, write_text
from common.run_main import print_line
from common.user_paths import parse_path
from data.image_store.files import FileStore, bytes_of_pixels, pixels_from_bytes
from data.values.value_range import DomainFormat

VERSION = 1
Progress = Callable[[Iterable[Path]], Iterable[Path]]


class DiskStore:
    """Training images by domain and index, decoded once into the folder data.disk_cache."""

    def __init__(self, source: FileStore, folder: Path, progress: Progress = iter) -> None:
        """Decode all images of `source` into `folder`, unless it has them already.

        UserError if the folder cannot be written.
        """
        config = source.config
        self._domains: dict[str, PixelFile] = {}
        for domain, form in source.formats.items():
            recipe = f"{config.fit} {config.load_size} {form.channels}"
            if form.has_range or form.page:
                recipe += f" {form}"
            decode = functools.partial(_read_bytes, source, form)
            self._domains[domain] = open_pixel_file(
                folder, source.files[domain], recipe, decode, progress
            )
        self._formats = source.formats

    def pixels(self, domain: str, index: int) -> np.ndarray:
        """Return image number `index` of a domain."""
        return pixels_from_bytes(self._domains[domain][index], self._formats[domain])


def _read_bytes(source: FileStore, form: DomainFormat, file: Path) -> np.ndarray:
    return bytes_of_pixels(source.read(file, form))


class PixelFile:
    """Images as uint8 [H, W, C], of any sizes, in one memory-mapped file.

    Every process opens the file itself; they share its pages through the page cache of the system.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: list[list[int]] = read_json(path.with_suffix(".json"))
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.starts = [0, *np.cumsum(sizes).tolist()]
        self._bytes: np.memmap | None = None

    def __getitem__(self, index: int) -> np.ndarray:
        if self._bytes is None:
            self._bytes = np.memmap(self.path, np.uint8, "r")
        start, stop = self.starts[index : index + 2]
        return self._bytes[start:stop].reshape(self.shapes[index])

    def __len__(self) -> int:
        return len(self.shapes)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_bytes": None}


def cache_name(files: Sequence[Path], recipe: str) -> str:
    """Return a name for these files, decoded by `recipe`; it depends on their sizes and dates."""
    digest = hashlib.sha256(f"{VERSION} {recipe}".encode())
    for file in files:
        status = file.stat()
        digest.update(os.fsencode(file) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:20]


def open_pixel_file(
    folder: Path, files: Sequence[Path], recipe: str, decode: Callable[[Path], np.ndarray],
    progress: Progress = iter,
) -> PixelFile:  # fmt: skip
    """Return the images that `decode` returns for `files`, from `folder` if they are there.

    They are built only once: other processes wait for the one that builds. `progress` wraps the
    iteration over the files. UserError if the folder cannot be written or the disk is full; an
    incomplete file is removed. BadImage if `decode` raises it.
    """
    path = parse_path(folder, "data.disk_cache") / f"{cache_name(files, recipe)}.u8"
    if not _is_complete(path, len(files)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path.with_suffix(".lock"), "w") as lock:
                _wait_for_lock(lock, path)
                if not _is_complete(path, len(files)):
                    _build(path, files, decode, progress)
        except (OSError, RunError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise UserError(
                f"data.disk_cache={folder}: {reason}; name another folder",
                option="data.disk_cache", path=folder,
            ) from None  # fmt: skip
    return PixelFile(path)


def _wait_for_lock(lock: IO[str], path: Path) -> None:
    """Lock a file; print a note where another process holds the lock, and wait for it.

    The system releases the lock of a process that ends. A signal ends the wait.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print_line(f"note: another process writes {path}; waiting until it is done")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_complete(path: Path, count: int) -> bool:
    """Return whether both files exist, are complete, and contain `count` images."""
    try:
        shapes = read_json(path.with_suffix(".json"))
        size = sum(int(np.prod(shape)) for shape in shapes)
        return len(shapes) == count and path.stat().st_size == size
    except (OSError, ValueError, TypeError):
        return False


def _build(
    path: Path, files: Sequence[Path], decode: Callable[[Path], np.ndarray], progress: Progress
) -> None:
    """Write both files; the caller holds the lock."""
    shapes: list[list[int]] = []

    def write(out: IO[bytes]) -> None:
        for file in progress(files):
            pixels = np.ascontiguousarray(decode(file))
            out.write(pixels.data)
            shapes.append(list(pixels.shape))

    write_atomically(path, write)
    write_text(path.with_suffix(".json"), json.dumps(shapes))
