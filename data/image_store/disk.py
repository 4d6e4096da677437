"""Decoded and resized images in one memory-mapped file a domain, for runs that read them many times."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.user_paths import parse_path

VERSION = 1


class DiskStore:
    """Images as uint8 [H, W, C], of any sizes, read from a file instead of being decoded again.

    The file is opened anew in every process that uses it, and shared by all of them through the
    system's page cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: list[list[int]] = json.loads(path.with_suffix(".json").read_text())
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


def fingerprint(files: Sequence[Path], recipe: str) -> str:
    """Return a name for what `recipe` makes of these files: another size or date is another name."""
    digest = hashlib.sha256(f"{VERSION} {recipe}".encode())
    for file in files:
        status = file.stat()
        digest.update(os.fsencode(file) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:20]


def open_disk_store(
    folder: Path,
    files: Sequence[Path],
    recipe: str,
    decode: Callable[[Path], np.ndarray],
    counted: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> DiskStore:
    """Return the images that `decode` makes of `files`, from `folder` if they are there.

    They are built once: a process that finds another building waits for it. `counted` may show the
    progress. UserError where the folder cannot be written or the disk is full; a half-built file is
    removed. BadImage as `decode` raises it.
    """
    path = parse_path(folder, "data.disk_cache") / f"{fingerprint(files, recipe)}.u8"
    if not _complete(path, len(files)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path.with_suffix(".lock"), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not _complete(path, len(files)):
                    _build(path, files, decode, counted)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"data.disk_cache={folder}: {reason}; name another folder") from None
    return DiskStore(path)


def _complete(path: Path, count: int) -> bool:
    """Say whether both files are there, whole, and of `count` images."""
    try:
        shapes = json.loads(path.with_suffix(".json").read_text())
        size = sum(int(np.prod(shape)) for shape in shapes)
        return len(shapes) == count and path.stat().st_size == size
    except (OSError, ValueError, TypeError):
        return False


def _build(
    path: Path,
    files: Sequence[Path],
    decode: Callable[[Path], np.ndarray],
    counted: Callable[[Iterable[Path]], Iterable[Path]],
) -> None:
    """Write both files; called by the one process that holds the lock."""
    shapes, partial = [], path.with_suffix(".tmp")
    try:
        with open(partial, "wb") as out:
            for file in counted(files):
                pixels = np.ascontiguousarray(decode(file))
                out.write(pixels.data)
                shapes.append(list(pixels.shape))
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, path)
        partial.write_text(json.dumps(shapes))
        os.replace(partial, path.with_suffix(".json"))
    finally:
        partial.unlink(missing_ok=True)
