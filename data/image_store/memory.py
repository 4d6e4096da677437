"""Cache decoded training images in memory that all worker processes share."""

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

from data.image_store.files import FileStore, bytes_of_pixels, pixels_from_bytes

# An entry of the index: offset of the pixels (0: not cached), height, width, channels, seal.
ENTRY = struct.Struct("=QQQQQ")
# The seal repeats the offset and is written last: an entry without its seal is incomplete.
SEAL = struct.Struct("=Q")


class MemoryStore:
    """Training images by domain and index, decoded in the first pass and cached in memory."""

    def __init__(self, source: FileStore, max_bytes: int) -> None:
        self.source = source
        self.cache = SharedPixels(sum(map(len, source.files.values())), max_bytes)
        starts = np.cumsum([0, *map(len, source.files.values())]).tolist()
        # Domain -> number of its first image in the cache.
        self._first_number = dict(zip(source.files, starts, strict=False))

    def pixels(self, domain: str, index: int) -> np.ndarray:
        """Return image number `index` of a domain; BadImage if it cannot be used."""
        number = self._first_number[domain] + index
        pixels = self.cache.get(number)
        if pixels is not None:
            return pixels_from_bytes(pixels, self.source.formats[domain])
        pixels = self.source.pixels(domain, index)
        self.cache.put(number, bytes_of_pixels(pixels))
        return pixels


class SharedPixels:
    """Images as uint8 [H, W, C], of any sizes, shared by a process and its worker processes.

    They are stored in an unnamed file (in memory on Linux, elsewhere in the folder of temporary
    files), which the system deletes when the last process closes it. The file begins with an index:
    entry 0 is the offset of the free space, entry n + 1 belongs to image n. Images that do not fit
    in `max_bytes` are not cached. A process that dies while it writes leaves no incomplete image
    that another process would read.
    """

    def __init__(self, count: int, max_bytes: int) -> None:
        """Create a cache of `count` images in `max_bytes`; it takes memory only as it is filled."""
        self.count = count
        self.max_bytes = max_bytes
        self.full = False
        self._file: int | None = None
        self._map: mmap.mmap | None = None
        try:
            self._own(_create_unnamed_file())
            # The file is sparse: it takes no memory until pages are written.
            os.ftruncate(self._descriptor, self._index_size + max_bytes)
            os.pwrite(self._descriptor, ENTRY.pack(self._index_size, 0, 0, 0, 0), 0)
        except OSError:  # no such file can be created: every pass decodes
            self._file = None

    @property
    def _descriptor(self) -> int:
        assert self._file is not None
        return self._file

    @property
    def _index_size(self) -> int:
        return ENTRY.size * (self.count + 1)

    def _own(self, file: int) -> None:
        """Use an open file, and close it together with this object."""
        self._file = file
        weakref.finalize(self, os.close, file)

    def get(self, index: int) -> np.ndarray | None:
        """Return image number `index`, which must not be modified, or None if it is not cached."""
        if self._file is None:
            return None
        if self._map is None:
            try:
                self._map = mmap.mmap(
                    self._file, self._index_size + self.max_bytes, prot=mmap.PROT_READ
                )
            except OSError:  # more than this process may map
                self._file = None
                return None
        entry = ENTRY.unpack_from(self._map, ENTRY.size * (index + 1))
        start, height, width, channels, seal = entry
        if not start or seal != start:
            return None
        size = height * width * channels
        pixels = np.frombuffer(self._map, np.uint8, size, start)
        return pixels.reshape(height, width, channels)

    def put(self, index: int, pixels: np.ndarray) -> None:
        """Cache a copy of image number `index`, if there is room."""
        if self._file is None or self.full:
            return
        try:
            start = self._reserve(pixels.nbytes)
            if start is None:
                return
            written = os.pwrite(self._file, np.ascontiguousarray(pixels).data, start)
            if (
                written == pixels.nbytes
            ):  # then the entry, then its seal: readers see all or nothing
                entry = ENTRY.size * (index + 1)
                os.pwrite(self._file, ENTRY.pack(start, *pixels.shape, 0), entry)
                os.pwrite(self._file, SEAL.pack(start), entry + ENTRY.size - SEAL.size)
        except OSError:  # no memory, no disk space or no lock: the image is decoded again
            self.full = True

    def _reserve(self, size: int) -> int | None:
        """Return the offset of `size` bytes reserved for this process, or None if it is full."""
        file = self._descriptor
        # The system releases this lock if the process dies.
        fcntl.lockf(file, fcntl.LOCK_EX, ENTRY.size)
        try:
            start, *_ = ENTRY.unpack(os.pread(file, ENTRY.size, 0))
            if start + size > self._index_size + self.max_bytes:
                self.full = True
                return None
            os.pwrite(file, ENTRY.pack(start + size, 0, 0, 0, 0), 0)
            return start
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN, ENTRY.size)

    def __getstate__(self) -> dict[str, Any]:
        # Spawned processes inherit the file; any other pickled copy caches nothing.
        inherited = None
        if self._file is not None and get_spawning_popen() is not None:
            inherited = DupFd(self._file)
        return {**self.__dict__, "_file": inherited, "_map": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        inherited = state.pop("_file")
        self.__dict__.update(state, _file=None)
        if inherited is not None:
            self._own(inherited.detach())


def _create_unnamed_file() -> int:
    """Return the descriptor of a new file that is in no folder."""
    with contextlib.suppress(AttributeError, OSError):  # available on Linux only, if permitted
        return os.memfd_create("cached_images")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
