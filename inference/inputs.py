"""Which pictures are to be translated, each with its mask, decoded ahead of the work."""

import glob
import itertools
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from common.user_paths import parse_path
from data.folders import SUFFIXES, files_in
from data.reading import open_image, read_image
from inference.outputs import output_name

AHEAD = 4  # pictures that are decoded while one is translated
Picture = Image.Image | np.ndarray
Opened = tuple[Path, Picture | UserError]
"""A file with its picture, or with what stands against it."""


@dataclass(frozen=True)
class Inputs:
    """The pictures to translate, and the folder that their names are relative to."""

    files: list[Path]
    base: Path
    single: bool  # one file, given by its name


def find_inputs(source: str, target: Path) -> Inputs:
    """Return the pictures that `source` names; UserError where there is none or one would be lost."""
    path = parse_path(source)
    if target.is_symlink() and not target.exists():
        raise UserError(f"{target}: a link that leads nowhere; name another place")
    inside = _real(target)
    if path.is_dir():
        if inside == _real(path):
            raise _overwriting(target)
        files = [f for f in files_in(path) if inside not in _real(f).parents]
        return Inputs(files, path, single=False)  # what an earlier call wrote there is no input
    if path.exists():
        if inside in (_real(path), _real(path.parent)):
            raise _overwriting(target)
        return Inputs([path], path.parent, single=True)
    if not glob.has_magic(source):
        raise UserError(f"no such file or folder: {source}")
    found = sorted(Path(f) for f in glob.glob(str(path), recursive=True))
    files = [f for f in found if f.is_file() and f.suffix.lower() in SUFFIXES]
    if not files:
        raise UserError(f"{source}: no picture has such a name")
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    base = Path(*fixed)
    if inside in {_real(f.parent) for f in files} and inside == _real(base):
        raise _overwriting(target)
    return Inputs(files, base, single=False)


def _real(path: Path) -> Path:
    """Return where links lead; a loop of them, which Path.resolve() raises at, leads to itself."""
    return Path(os.path.realpath(path))


def frame_order(file: Path) -> list[tuple[int, int | str]]:
    """Return what puts frame 2 before frame 10."""
    parts = re.split(r"(\d+)", str(file))
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def refuse_overwriting(work: Inputs, target: Path) -> None:
    """Raise UserError where a translation would take the place of a picture that is translated."""
    if work.single:
        return
    inputs = {_real(file) for file in work.files}
    for file in work.files:
        out = target / output_name(file.relative_to(work.base))
        if _real(out) in inputs:
            raise UserError(f"{out} is one of the pictures to translate; name another folder")


def _overwriting(target: Path) -> UserError:
    return UserError(
        f"{target}: pictures would be overwritten by their translations; name another place"
    )


class Masks:
    """The mask of each picture: none, the same for all, or the one of its name in a folder."""

    def __init__(self, mask: str, base: Path) -> None:
        self.path = parse_path(mask, "mask") if mask else None
        self.base = base
        if self.path is not None and not self.path.exists():
            raise UserError(f"mask={mask}: no such file or folder")
        self.shared = self._read(self.path) if self.path and self.path.is_file() else None

    @property
    def differ(self) -> bool:
        """Say whether each picture has its own."""
        return self.path is not None and self.shared is None

    def of(self, file: Path) -> Image.Image | None:
        """Return a picture's mask; UserError where a folder of masks has none of its name."""
        if self.path is None or self.shared is not None:
            return self.shared
        mask = self.path / file.relative_to(self.base)
        if not mask.is_file():
            raise UserError(f"{file}: no mask {mask}")
        return self._read(mask)

    def _read(self, path: Path) -> Image.Image:
        return Image.fromarray(read_image(path, 1)[..., 0])


def decode_ahead(files: Sequence[Path], channels: int) -> Iterator[Opened]:
    """Yield each file with its picture, or with the error that says why there is none.

    The next ones are decoded meanwhile: Pillow's decoders let other threads run.
    """

    def decode(file: Path) -> Picture | UserError:
        try:
            if file.suffix.lower() == ".npy":
                return read_image(file, channels)
            if channels > 4:
                return UserError(f"{file}: this run translates arrays of {channels} channels")
            return open_image(file)
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"{file}: {error.strerror or error}")
        except MemoryError:
            return too_large(file)

    waiting: deque[tuple[Path, Future[Picture | UserError]]] = deque()
    rest: Iterable[Path] = iter(files)
    with ThreadPoolExecutor(2) as pool:
        for file in itertools.chain(rest, [None] * AHEAD):
            if file is not None:
                waiting.append((file, pool.submit(decode, file)))
            if waiting and (file is None or len(waiting) > AHEAD):
                path, future = waiting.popleft()
                yield path, future.result()


def batch_by_size(pictures: Iterable[Opened], most: int) -> Iterator[list[Opened]]:
    """Yield pictures in their order, neighbours of one size together, `most` pixels at once or one."""
    group: list[Opened] = []
    for file, picture in pictures:
        size = picture.size if isinstance(picture, Image.Image) else None
        if group:
            last = group[-1][1]
            alike = isinstance(last, Image.Image) and last.size == size
            if not alike or size is None or (len(group) + 1) * size[0] * size[1] > most:
                yield group
                group = []
        group.append((file, picture))
    if group:
        yield group


def too_large(file: Path) -> UserError:
    """Return the line for a picture that does not fit the memory."""
    return UserError(
        f"{file}: too large for the memory that is free; try tile=256, or make it smaller"
    )
