"""Find the pictures to translate and their masks, and decode pictures in advance."""

import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from common.threads import map_in_threads
from common.user_paths import parse_path
from data.folders import SUFFIXES, files_in
from data.reading import has_bands, open_image, read_image
from data.values.raw_values import TIFF_SUFFIXES, read_values
from data.values.value_range import DomainFormat
from inference.outputs import output_name

DECODED_AHEAD = 4  # pictures that are decoded while one is translated
Picture = Image.Image | np.ndarray
OpenedPicture = tuple[Path, Picture | UserError]
"""A file with its picture, or with the error that tells why it cannot be translated."""


@dataclass(frozen=True)
class Inputs:
    """The pictures to translate, and the folder that their names are relative to."""

    files: list[Path]
    base: Path
    single: bool  # one file, given by its name


def find_inputs(source: str, target: Path) -> Inputs:
    """Return the pictures that `source`, a file, a folder or a pattern, names.

    UserError if there are none, or if translations in `target` would overwrite them. Outputs of an
    earlier call, in a folder `target` inside the folder `source`, are left out.
    """
    path = parse_path(source)
    if target.is_symlink() and not target.exists():
        raise UserError(f"{target}: a broken symbolic link; choose another output", path=target)
    real_target = _real(target)
    if path.is_dir():
        if real_target == _real(path):
            raise _overwrite_error(target)
        files = [f for f in files_in(path) if real_target not in _real(f).parents]
        return Inputs(files, path, single=False)
    if path.exists():
        if not path.is_file():
            raise UserError(f"{path}: neither a file nor a folder", path=path)
        if real_target in (_real(path), _real(path.parent)):
            raise _overwrite_error(target)
        return Inputs([path], path.parent, single=True)
    if not glob.has_magic(source):
        raise UserError(f"no such file or folder: {source}", path=source)
    matches = sorted(Path(f) for f in glob.glob(str(path), recursive=True))
    files = [f for f in matches if f.is_file() and f.suffix.lower() in SUFFIXES]
    if not files:
        raise UserError(f"{source}: no picture matches this pattern", path=source)
    base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    if real_target in {_real(f.parent) for f in files} and real_target == _real(base):
        raise _overwrite_error(target)
    return Inputs(files, base, single=False)


def _real(path: Path) -> Path:
    """Return the target of links; of a cycle of links, at which Path.resolve() raises, the path."""
    return Path(os.path.realpath(path))


def frame_order(file: Path) -> list[tuple[int, int | str]]:
    """Return a sort key that puts frame 2 before frame 10."""
    parts = re.split(r"(\d+)", str(file))
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def refuse_overwriting(inputs: Inputs, target: Path, form: DomainFormat | None = None) -> None:
    """Raise UserError if a translation in the folder `target` would overwrite one of the inputs."""
    if inputs.single:
        return
    real_inputs = {_real(file) for file in inputs.files}
    for file in inputs.files:
        out = target / output_name(file.relative_to(inputs.base), form)
        if _real(out) in real_inputs:
            raise UserError(
                f"{out} is one of the pictures to translate; name another folder", path=out
            )


def _overwrite_error(target: Path) -> UserError:
    return UserError(
        f"{target}: pictures would be overwritten by their translations; choose another output",
        path=target,
    )


class Masks:
    """The masks of pictures: none, one file for all, or the files of the same names in a folder."""

    def __init__(self, mask: str, base: Path) -> None:
        """Use `mask`, a file, a folder with the names of pictures below `base`, or ""."""
        self.path = parse_path(mask, "mask") if mask else None
        self.base = base
        if self.path is not None and not self.path.exists():
            raise UserError(f"mask={mask}: no such file or folder", option="mask", path=self.path)
        self.shared = self._read(self.path) if self.path and self.path.is_file() else None

    @property
    def differ(self) -> bool:
        """Whether each picture has its own mask."""
        return self.path is not None and self.shared is None

    def of(self, file: Path) -> Image.Image | None:
        """Return the mask of a picture; UserError if a folder of masks has no file of its name."""
        if self.path is None or self.shared is not None:
            return self.shared
        mask = self.path / file.relative_to(self.base)
        if not mask.is_file():
            raise UserError(f"{file}: its mask {mask} does not exist", option="mask", path=mask)
        return self._read(mask)

    def _read(self, path: Path) -> Image.Image:
        return Image.fromarray(read_image(path, 1)[..., 0])


def read_picture(file: Path, form: DomainFormat) -> Picture:
    """Return the picture of a file as `PictureTranslator` takes it.

    A masked array of values [H, W, C] if the domain has a range, invalid ones masked; else an image,
    or uint8 [H, W, C] for arrays and for TIFFs with other bands than images have. BadImage and
    OSError as in `data.reading`.
    """
    if form.has_range:
        values, valid = read_values(file, form.channels, form.page)
        return np.ma.masked_array(values, mask=~valid)
    suffix = file.suffix.lower()
    if suffix == ".npy" or (suffix in TIFF_SUFFIXES and (form.page or has_bands(file))):
        return read_image(file, form.channels, page=form.page)
    if form.channels > 4:
        raise UserError(
            f"{file}: not an array or TIFF of {form.channels} channels, as this run needs",
            path=file,
        )
    return open_image(file)


def decode_ahead(files: Sequence[Path], form: DomainFormat) -> Iterator[OpenedPicture]:
    """Yield each file with its picture, or with the UserError that tells why it cannot be read.

    `form` is the format of the source domain; with a range, pictures are masked arrays of values.

    The next files are decoded in threads meanwhile: Pillow's decoders release the interpreter lock.
    """

    def decode(file: Path) -> Picture | UserError:
        try:
            return read_picture(file, form)
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"{file}: {error.strerror or error}", path=file)
        except MemoryError:
            return too_large_error(file)

    return map_in_threads(decode, files, 2, DECODED_AHEAD)


def batch_by_size(
    pictures: Iterable[OpenedPicture], max_pixels: int
) -> Iterator[list[OpenedPicture]]:
    """Yield pictures in order, in batches of neighbours that have one size.

    A batch has at most `max_pixels` pixels, or one picture.
    """
    batch: list[OpenedPicture] = []
    for file, picture in pictures:
        size = picture.size if isinstance(picture, Image.Image) else None
        if batch:
            last = batch[-1][1]
            same_size = isinstance(last, Image.Image) and last.size == size
            if not same_size or size is None or (len(batch) + 1) * size[0] * size[1] > max_pixels:
                yield batch
                batch = []
        batch.append((file, picture))
    if batch:
        yield batch


def too_large_error(file: Path) -> UserError:
    """Return the error for a picture that does not fit into memory."""
    return UserError(
        f"{file}: too large for the free memory; try tile=256, or make the picture smaller",
        path=file,
    )
