"""Read the values of scientific images, of any type and number of bands, as the file has them.

TIFFs are read by tifffile, 16-bit PNGs by imagecodecs, arrays by NumPy. Ordinary 8-bit pictures are
left to data/reading.py.
"""

import functools
import logging
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from common.errors import UserError, one_line
from data.values.bad_image import BadImage
from data.values.pixel_limit import check_pixels
from data.values.pnm_header import deep_color_size

TIFF_SUFFIXES = (".tif", ".tiff")
MAY_HOLD_VALUES = (
    *TIFF_SUFFIXES,
    ".png",
    ".npy",
    ".pgm",
    ".ppm",
    ".pnm",
    ".pfm",
)  # others have 8 bits
ALPHA_IN_PNG = (4, 6)  # color types with alpha
PNG_BANDS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # color type -> samples of a pixel
ORIENTATION, GDAL_NODATA = 274, 42113  # TIFF tags
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # orientation -> what undoes it
    2: np.fliplr, 3: lambda rows: np.rot90(rows, 2), 4: np.flipud,
    5: lambda rows: rows.swapaxes(0, 1), 6: lambda rows: np.rot90(rows, -1),
    7: lambda rows: np.rot90(rows, 2).swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip
Result = TypeVar("Result")
_HEADER_LOCK = threading.Lock()
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # BadImage reports its errors


@dataclass(frozen=True)
class FileFormat:
    """What the header of a file says about its values."""

    dtype: str  # a NumPy type
    bands: int
    has_alpha: bool  # the last band is transparency, because the file says so
    pages: int
    is_picture: bool  # 8 bits, of an ordinary mode: data/reading.py reads it

    def __str__(self) -> str:
        bands = "1 band" if self.bands == 1 else f"{self.bands} bands"
        return f"{bands} of {self.dtype}{' with alpha' if self.has_alpha else ''}"


MAX_PAGES = 10_000
# None, LZW, Deflate (two numbers), PackBits, LZMA and ZSTD: others hold a picture of any size.
COMPRESSIONS = frozenset([1, 5, 8, 32946, 32773, 34925, 50000])
PICTURE = FileFormat("uint8", 3, False, 1, is_picture=True)


def _bad_image_on_errors(function: Callable[..., Result]) -> Callable[..., Result]:
    """Make a function of a path raise BadImage for whatever decoders raise."""

    @functools.wraps(function)
    def wrapped(path: str | Path, *args: Any, **settings: Any) -> Result:
        try:
            return function(path, *args, **settings)
        except (UserError, FileNotFoundError):
            raise
        except Exception as error:  # decoders raise errors of any type
            reason = one_line(error, 120)
            raise BadImage(f"{path}: cannot be decoded: {reason}", path=path) from None

    return wrapped


def map_array(path: str | Path) -> np.ndarray:
    """Return a .npy array whose values are read from the file when they are used.

    NumPy parses the header with Python's own parser, which fails now and then in several threads at
    once (CPython issue 106905): only one thread does so at a time.
    """
    with _HEADER_LOCK:
        return np.load(path, allow_pickle=False, mmap_mode="r")


@_bad_image_on_errors
def file_format(path: str | Path) -> FileFormat:
    """Return the format of a file, from its header; BadImage if it cannot be read.

    Only files whose suffix permits other values than 8-bit pictures are opened.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in MAY_HOLD_VALUES:
        return PICTURE
    if suffix in TIFF_SUFFIXES:
        return _tiff_format(path)
    reader = {".npy": _array_format, ".png": _png_format}.get(suffix, _pnm_format)
    return reader(path)


@_bad_image_on_errors
def read_values(path: str | Path, channels: int, page: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a file, [H, W, channels], and their validity, bool [H, W, channels].

    Values have the type of the file. NaN, infinities and GDAL's nodata value are invalid; without
    such a value in the file, so is the lowest value of signed integers, as in SRTM. `page` is
    the page of a file with several; -1 stacks all pages as channels. Alpha is composited on the
    type's largest value where `channels` does not include it; a [C, H, W] array is transposed.

    BadImage says what the file has if that is not `channels` bands.
    """
    suffix, nodata = Path(path).suffix.lower(), None
    form = file_format(path)
    if suffix == ".npy":
        _check(path, form, form.bands, [values_size(path)])
        values = height_width_channels(np.array(map_array(path)), channels)
        form = replace(form, bands=values.shape[2])
    elif suffix in TIFF_SUFFIXES:
        values, form, nodata = _read_tiff(path, channels, page)
    else:
        _check(path, form, channels, [values_size(path)])
        values = _decoded(path)
    _check(path, form, channels, [])
    if form.has_alpha and form.bands == channels + 1:
        values = _composite_on_largest(values)
    if not values.size:
        raise BadImage(f"{path}: an array of {list(values.shape)}, without pixels", path=path)
    if values.dtype.kind not in "fiu":
        raise BadImage(f"{path}: values of type {values.dtype} are not supported", path=path)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if nodata is None and values.dtype.kind == "i" and values.dtype.itemsize > 1:
        nodata = np.iinfo(values.dtype).min  # voids of heights and radar: -32768
    valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    return values, valid if nodata is None else valid & (values != nodata)


def _check(
    path: str | Path, form: FileFormat, channels: int, sizes: Sequence[tuple[int, int]]
) -> None:
    """Raise BadImage, before anything is decoded, for other bands or too many pixels."""
    if sizes:
        pixels = sum(height * width for height, width in sizes)
        is_compressed = Path(path).suffix.lower() not in (".npy", ".pgm", ".pnm", ".pfm")
        size = os.path.getsize(path) if is_compressed else 0
        check_pixels(path, pixels, form.bands, size)
    if form.bands != channels and not (form.has_alpha and form.bands == channels + 1):
        raise BadImage(
            f"{path}: has {form}, but data.channels is {channels}; set "
            f"data.channels={form.bands - form.has_alpha}, or save the bands that you need",
            option="data.channels", path=path,
        )  # fmt: skip


def _decoded(path: str | Path) -> np.ndarray:
    """Return the values of a 16-bit PNG, a PGM or a PFM, [H, W, C]."""
    if Path(path).suffix.lower() == ".png":
        import imagecodecs

        values = imagecodecs.png_decode(Path(path).read_bytes())
    else:
        if header := deep_color_size(path):
            width, height, offset = header
            values = np.fromfile(path, ">u2", 3 * width * height, offset=offset)
            return values.reshape(height, width, 3)
        with Image.open(path) as image:
            values = np.asarray(image)
            if image.mode.startswith("I"):
                values = values.clip(0, 65535).astype(np.uint16)
    return values.reshape(*values.shape[:2], -1)


@_bad_image_on_errors
def values_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) as displayed of a file that `read_values` reads, from its header."""
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        shape = map_array(path).shape
        is_channels_first = len(shape) == 3 and shape[0] < min(shape[1:])
        return (shape[1], shape[2]) if is_channels_first else (shape[0], shape[1])
    if suffix in TIFF_SUFFIXES:
        import tifffile

        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            is_sideways = page.tags.valueof(ORIENTATION, default=1) in (5, 6, 7, 8)
            height, width = page.imagelength, page.imagewidth
            return (width, height) if is_sideways else (height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            return image.height, image.width


def _png_format(path: str | Path) -> FileFormat:
    with open(path, "rb") as file:
        header = file.read(26)
    if len(header) < 26 or header[12:16] != b"IHDR" or header[24] != 16:
        return PICTURE  # also what is not a PNG: Pillow says so, or reads it
    kind = header[25]
    return FileFormat("uint16", PNG_BANDS.get(kind, 3), kind in ALPHA_IN_PNG, 1, False)


def _pnm_format(path: str | Path) -> FileFormat:
    """Return the format of a PGM or PPM, which may have 16 bits, or of a PFM."""
    if deep_color_size(path):
        return FileFormat("uint16", 3, False, 1, False)
    with warnings.catch_warnings(), Image.open(path) as image:
        if image.mode.startswith("I"):
            return FileFormat("uint16", 1, False, 1, False)
        return FileFormat("float32", 1, False, 1, False) if image.mode == "F" else PICTURE


def _array_format(path: str | Path) -> FileFormat:
    array = map_array(path)
    bands = 1 if array.ndim < 3 else min(array.shape[0], array.shape[2])
    return FileFormat(array.dtype.name, bands, False, 1, is_picture=array.dtype == np.uint8)


def height_width_channels(array: np.ndarray, channels: int) -> np.ndarray:
    """Return an array [H, W], [H, W, C] or [C, H, W] as [H, W, C]."""
    if array.ndim == 2:
        return array[..., None]
    if array.ndim != 3:
        raise ValueError(f"an array of shape {list(array.shape)}, not [height, width, channels]")
    is_channels_first = array.shape[0] == channels != array.shape[2]
    return np.ascontiguousarray(array.transpose(1, 2, 0)) if is_channels_first else array


def _tiff_format(path: str | Path) -> FileFormat:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        count = len(_full_pages(file))
        has_alpha = bool(page.extrasamples) and page.extrasamples[-1] in (1, 2)
        colors = page.samplesperpixel - len(page.extrasamples)
        is_picture = (
            page.bitspersample <= 8
            and page.planarconfig == 1
            and (colors in (1, 3) or (colors == 4 and page.photometric == 5))  # CMYK
            and len(page.extrasamples) == has_alpha
            and page.sampleformat == 1
        )
        if not is_picture and page.compression not in COMPRESSIONS:
            raise ValueError(
                f"its compression {getattr(page.compression, 'name', page.compression)} is not read; "
                "save it with LZW, Deflate, ZSTD or without compression"
            )
        dtype = str(page.dtype or np.dtype(np.uint8))
        return FileFormat(dtype, page.samplesperpixel, has_alpha, count, is_picture)


def _full_pages(file: Any) -> list[Any]:
    """Return the pages of a TIFF without thumbnails, overviews and masks."""
    pages = []
    for number, page in enumerate(file.pages):
        if number >= MAX_PAGES:
            raise ValueError(f"more than {MAX_PAGES} pages")
        if not page.is_reduced and not page.is_mask:
            pages.append(page)
    return pages


def _read_tiff(
    path: str | Path, channels: int, page: int
) -> tuple[np.ndarray, FileFormat, float | None]:
    """Return values [H, W, C], their format, and the nodata value of a page; -1: of all."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        pages = _full_pages(file)
        if page >= len(pages):
            raise BadImage(
                f"{path}: data.page={page}, but the file has {len(pages)} pages; the first is 0",
                option="data.page", path=path,
            )  # fmt: skip
        chosen = pages if page < 0 else [pages[page]]
        first = chosen[0]
        has_alpha = page >= 0 and bool(first.extrasamples) and first.extrasamples[-1] in (1, 2)
        bands = sum(each.samplesperpixel for each in chosen)
        form = FileFormat(str(first.dtype), bands, has_alpha, len(pages), is_picture=False)
        _check(path, form, channels, [(each.imagelength, each.imagewidth) for each in chosen])
        parts = [_page_values(each) for each in chosen]
        if len({part.shape[:2] for part in parts}) > 1:
            raise BadImage(f"{path}: its pages differ in size; set data.page=N", path=path)
        tag = first.tags.get(GDAL_NODATA)
        nodata = None
        if tag is not None:
            text = str(tag.value).strip("\0 ")
            nodata = float(text) if text.lower() not in ("", "nan") else None
        return np.concatenate(parts, axis=2), form, nodata


def _page_values(page: Any) -> np.ndarray:
    """Return a page of a TIFF as displayed: upright, black is the lowest value; [H, W, C]."""
    values = page.asarray()
    if values.ndim == 2:
        values = values[..., None]
    elif page.planarconfig == 2 and page.samplesperpixel > 1:
        values = values.transpose(1, 2, 0)
    if page.photometric == 0 and values.dtype.kind == "u":  # white is zero
        values = np.iinfo(values.dtype).max - values
    upright = UPRIGHT.get(page.tags.valueof(ORIENTATION, default=1))
    return np.ascontiguousarray(values if upright is None else upright(values))


def _composite_on_largest(values: np.ndarray) -> np.ndarray:
    """Return values without their last band, transparency, over the largest value of the type."""
    largest = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    alpha = values[..., -1:].astype(np.float64) / largest
    mixed = values[..., :-1] * alpha + largest * (1 - alpha)
    return (mixed if values.dtype.kind == "f" else np.rint(mixed)).astype(values.dtype)
