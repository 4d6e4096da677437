"""Decoded images kept in memory, so that only the first pass through a set decodes."""

import contextlib
import fcntl
import mmap
import os
import struct
import tempfile
import weakref
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np

from data.image_store.files import FileStore

ENTRY = struct.Struct(
    "=QQQQQ"
)  # where the pixels begin (0: not kept), height, width, channels, seal
SEAL = struct.Struct(
    "=Q"
)  # where they begin once more, written last: an entry without is not whole


class MemoryStore:
    """Training images by domain and index, decoded in the first pass and kept in memory."""

    def __init__(self, source: FileStore, max_bytes: int) -> None:
        self.source = source
        self.cache = SharedPixels(sum(map(len, source.files.values())), max_bytes)
        starts = np.cumsum([0, *map(len, source.files.values())]).tolist()
        self._first = dict(
            zip(source.files, starts, strict=False)
        )  # number of a domain's first image

    def pixels(self, domain: str, index: int) -> np.ndarray:
        """Return image number `index` of a domain; BadImage where it cannot be used."""
        number = self._first[domain] + index
        pixels = self.cache.get(number)
        if pixels is None:
            pixels = self.source.pixels(domain, index)
            self.cache.put(number, pixels)
        return pixels


class SharedPixels:
    """Images as uint8 [H, W, C], of any sizes, that all who read for one process put down and pick up.

    They lie in a file without a name (in memory under Linux, elsewhere wherever temporary files are),
    which the system removes with the last process that has it open. What does not fit in `most` bytes
    is not kept. A process that dies on the way leaves nothing half written that another would read.
    """

    def __init__(self, count: int, max_bytes: int) -> None:
        """Make room for `count` images in `most` bytes; none of it is taken before it is used."""
        self.count = count
        self.max_bytes = max_bytes
        self.full = False
        self._file: int | None = None
        self._seen: mmap.mmap | None = None
        try:
            self._own(_nameless_file())
            os.ftruncate(
                self._opened, self._first + max_bytes
            )  # takes nothing: no page is written yet
            os.pwrite(self._opened, ENTRY.pack(self._first, 0, 0, 0, 0), 0)  # where the next go
        except OSError:  # no such file to be had: every pass decodes
            self._file = None

    @property
    def _opened(self) -> int:
        assert self._file is not None
        return self._file

    @property
    def _first(self) -> int:
        return ENTRY.size * (self.count + 1)

    def _own(self, file: int) -> None:
        self._file = file
        weakref.finalize(self, os.close, file)

    def get(self, index: int) -> np.ndarray | None:
        """Return image number `index`, not to be written to, or None where it is not kept."""
        if self._file is None:
            return None
        if self._seen is None:
            try:
                self._seen = mmap.mmap(
                    self._file, self._first + self.max_bytes, prot=mmap.PROT_READ
                )
            except OSError:  # more than this process may map
                self._file = None
                return None
        entry = ENTRY.unpack_from(self._seen, ENTRY.size * (index + 1))
        start, height, width, channels, seal = entry
        if not start or seal != start:
            return None
        size = height * width * channels
        pixels = np.frombuffer(self._seen, np.uint8, size, start)
        return pixels.reshape(height, width, channels)

    def put(self, index: int, pixels: np.ndarray) -> None:
        """Keep a copy of image number `index`, where there is room."""
        if self._file is None or self.full:
            return
        try:
            start = self._room(pixels.nbytes)
            if start is None:
                return
            written = os.pwrite(self._file, np.ascontiguousarray(pixels).data, start)
            if written == pixels.nbytes:  # then the entry, then its seal: who finds it finds all
                entry = ENTRY.size * (index + 1)
                os.pwrite(self._file, ENTRY.pack(start, *pixels.shape, 0), entry)
                os.pwrite(self._file, SEAL.pack(start), entry + ENTRY.size - SEAL.size)
        except OSError:  # no memory, no space, no lock: the image is decoded again
            self.full = True

    def _room(self, size: int) -> int | None:
        """Return where `size` bytes may be written, for this process alone, or None."""
        file = self._opened
        fcntl.lockf(file, fcntl.LOCK_EX, ENTRY.size)  # the system lets go for a process that dies
        try:
            start, *_ = ENTRY.unpack(os.pread(file, ENTRY.size, 0))
            if start + size > self._first + self.max_bytes:
                self.full = True
                return None
            os.pwrite(file, ENTRY.pack(start + size, 0, 0, 0, 0), 0)
            return start
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN, ENTRY.size)

    def __getstate__(self) -> dict[str, Any]:
        # A process that is being started is handed the file; what is copied otherwise keeps nothing.
        handed = None
        if self._file is not None and get_spawning_popen() is not None:
            handed = DupFd(self._file)
        return {**self.__dict__, "_file": handed, "_seen": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        handed = state.pop("_file")
        self.__dict__.update(state, _file=None)
        if handed is not None:
            self._own(handed.detach())


def _nameless_file() -> int:
    """Return a new file that no folder lists."""
    with contextlib.suppress(AttributeError, OSError):  # Linux alone has it, and may forbid it
        return os.memfd_create("kept_images")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
