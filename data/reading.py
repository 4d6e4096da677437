"""Decode one image file into upright 8-bit sRGB pixels, or raise BadImage with the reason."""

import contextlib
import functools
import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from common.errors import one_line
from data.values.bad_image import BadImage
from data.values.pixel_limit import check_pixels
from data.values.pnm_header import has_no_size, read_start
from data.values.raw_values import (
    TIFF_SUFFIXES,
    file_format,
    height_width_channels,
    map_array,
    read_values,
    values_size,
)
from data.values.value_range import DomainFormat

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")  # JPEG opens MPO too
ORIENTATION = 0x0112  # the EXIF tag
MAX_SCANNED_BYTES = 2**27  # of a file whose scans are counted
MAX_SCANS = 200  # of a progressive JPEG; encoders make about ten
TRANSPOSES = {  # EXIF orientation -> the transpose that makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
ORIENTATION_METADATA = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # info keys
logging.getLogger("PIL").addHandler(logging.NullHandler())  # BadImage reports its errors instead
_STDERR_LOCK = threading.Lock()  # file descriptor 2 belongs to the whole process


def read_image(
    path: str | Path, channels: int = 3, least: int = 0, page: int = 0
) -> np.ndarray:  # fmt: skip
    """Return the pixels of `path` as a writable uint8 array [H, W, channels].

    The EXIF orientation is applied, colors are converted to sRGB by the embedded ICC profile,
    16-bit and float samples are scaled (not clipped) to 8 bits, and transparent images are
    composited on white unless `channels` includes alpha. Only the first frame of an animation is
    read. An 8-bit TIFF with bands beside alpha, or in planes, keeps its bands; `page` is its page.

    1 channel is luminance, 2 luminance and alpha, 3 RGB, 4 RGBA; a `.npy` array [H, W, channels]
    (uint8, uint16, or float in 0 to 1) has any number.

    With `least`, a JPEG of at least twice that many pixels on both sides is decoded at a half, a
    quarter or an eighth of its size, which is faster and free of aliasing.

    BadImage names the file if it cannot be decoded completely or is too large (pixel_limit);
    FileNotFoundError if there is no such file.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        return _read_array(path, channels)
    if suffix in TIFF_SUFFIXES and (page or has_bands(path)):
        return read_values(path, channels, page)[0]
    return pixels_of(open_image(path, least=least), channels, path)


def read_pixels(path: str | Path, form: DomainFormat, least: int = 0) -> np.ndarray:
    """Return an image of a domain as [H, W, C]: uint8, or float32 in [0, 1] if it has a range.

    Invalid values (NaN, nodata) become 0. `least` and errors as in `read_image`.
    """
    if form.has_range:
        return form.to_unit(valid_or_nan(*read_values(path, form.channels, form.page)))
    return read_image(path, form.channels, least, form.page)


def valid_or_nan(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return values with NaN where they are invalid."""
    return values if valid.all() else np.where(valid, values.astype(np.float64), np.nan)


def has_bands(path: str | Path) -> bool:
    """Return whether a TIFF of 8 bits has bands or planes that Pillow would invent or drop."""
    form = file_format(path)
    return form.dtype == "uint8" and not form.is_picture


def open_image(
    source: str | Path | io.BytesIO, name: str | Path | None = None, least: int = 0
) -> Image.Image:
    """Decode the file completely and return it upright, in sRGB, with 8 bits per sample.

    The mode of the result is L, LA, RGB or RGBA, with the channels of the file, no more and no
    fewer. `name` is the name in error messages (default: the path). BadImage as in `read_image`.
    """
    path = name or ("" if isinstance(source, io.BytesIO) else source)
    name = path or "the picture"
    with warnings.catch_warnings():
        # Pillow warns about harmless problems (bad EXIF, odd metadata) and raises the serious ones.
        warnings.simplefilter("ignore")
        try:
            _check_pnm_header(source, name)
            with Image.open(source, formats=FORMATS) as image:
                size = source.getbuffer().nbytes if isinstance(source, io.BytesIO) else (
                    os.path.getsize(source)
                )  # fmt: skip
                check_pixels(name, image.width * image.height, size=size)
                _check_scans(image, source, name)
                if least:
                    image.draft(None, (least, least))
                with _quiet_libtiff(image.format):
                    image.load()
                return to_upright_srgb(image)
        except (BadImage, FileNotFoundError):
            raise
        except Image.UnidentifiedImageError:
            raise _unsupported(path, name) from None
        except Exception as error:  # decoders raise errors of any type
            reason = one_line(error, 120)
            raise BadImage(f"{name}: cannot be decoded: {reason}", path=path) from None


def _unsupported(path: str | Path, name: object = "") -> BadImage:
    return BadImage(
        f"{name or path}: not an image in a supported format ({', '.join(FORMATS)})", path=path
    )


def _check_scans(image: Image.Image, source: str | Path | io.BytesIO, name: object) -> None:
    """Raise BadImage for a progressive JPEG of too many scans: each costs a pass over the image."""
    if image.format not in ("JPEG", "MPO") or not image.info.get("progressive"):
        return
    if isinstance(source, io.BytesIO):
        content = source.getvalue()
    else:
        with open(source, "rb") as file:
            content = file.read(MAX_SCANNED_BYTES)
    if (scans := content.count(b"\xff\xda")) > MAX_SCANS:
        raise BadImage(
            f"{name}: a JPEG of {scans} scans, made to keep a reader busy", path=str(name)
        )


def _check_pnm_header(source: str | Path | io.BytesIO, name: object) -> None:
    """Raise BadImage for a PNM file of comments, which Pillow reads one byte after the other."""
    start = source.getvalue() if isinstance(source, io.BytesIO) else read_start(source)
    if has_no_size(start):
        raise BadImage(f"{name}: not a PNM file: its header has no size", path=str(name))


@contextlib.contextmanager
def _quiet_libtiff(kind: str | None) -> Iterator[None]:
    """Discard standard error while a TIFF is decoded: libtiff prints what BadImage reports."""
    with _STDERR_LOCK if kind == "TIFF" else contextlib.nullcontext():
        try:
            saved = os.dup(2) if kind == "TIFF" else None
        except OSError:  # standard error is closed: nothing can be printed
            saved = None
        if saved is None:
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)


def to_upright_srgb(image: Image.Image) -> Image.Image:
    """Return a decoded image as displayed: upright, sRGB, 8 bits per sample; L, LA, RGB or RGBA."""
    return _to_srgb(_to_8_bit(apply_exif_orientation(image)))


def pixels_of(image: Image.Image, channels: int, name: str | Path = "") -> np.ndarray:
    """Return the pixels of an upright image as uint8 [H, W, channels] (see `read_image`).

    BadImage if `channels` is not 1 to 4; the message begins with `name`.
    """
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    if channels not in modes:
        raise BadImage(
            f"{name or 'image'}: image files have 1 to 4 channels; store {channels} channels in "
            ".npy arrays",
            path=name,
        )
    if channels in (1, 3):
        image = composite_on_white(image)
    pixels = np.array(image if image.mode == modes[channels] else image.convert(modes[channels]))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def composite_on_white(image: Image.Image) -> Image.Image:
    """Return an image with alpha composited on white; others unchanged."""
    if image.mode not in ("LA", "RGBA"):
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) as displayed, from the header alone; BadImage if it cannot be read."""
    if not file_format(path).is_picture or str(path).lower().endswith(".npy"):
        return values_size(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                is_sideways = _orientation(image) >= 5
                return (image.width, image.height) if is_sideways else (image.height, image.width)
    except Image.UnidentifiedImageError:
        raise _unsupported(path) from None
    except Exception as error:  # of any type, as in open_image
        raise BadImage(f"{path}: cannot be read: {one_line(error, 120)}", path=path) from None


def apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Return an image transposed according to its EXIF orientation."""
    transpose = TRANSPOSES.get(_orientation(image))
    if transpose is None:
        return image
    upright = image.transpose(transpose)
    for name in ORIENTATION_METADATA:  # otherwise a second call would transpose it again
        upright.info.pop(name, None)
    return upright


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) if there is none or it is unreadable."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # of any type, as in open_image
        return 1
    return orientation if orientation in TRANSPOSES else 1


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Convert greys of more than 8 bits, palettes, Lab, and CMYK without a profile to 8 bits."""
    if image.mode.startswith("I") or image.mode == "F":
        samples = np.asarray(image, dtype=np.float64)
        # Integers have the range 0..65535; float files use 0..1, 0..255 or 0..65535.
        top = 65535.0 if image.mode != "F" else next(
            (t for t in (1.0, 255.0, 65535.0) if samples.max(initial=0.0) <= t), samples.max()
        )  # fmt: skip
        grey = np.rint(np.clip(np.nan_to_num(samples), 0, top) * (255.0 / top))
        return Image.fromarray(grey.astype(np.uint8))
    if image.mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in image.info:
        return image
    if image.mode in ("CMYK", "YCbCr", "HSV"):
        return image if image.info.get("icc_profile") else image.convert("RGB")
    if image.mode == "LAB":
        return ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        ) or image.convert("RGB")  # fmt: skip
    if image.mode in ("PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert colors by the embedded ICC profile; without a valid one, leave them unchanged."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "RGBA", "CMYK"):
        try:
            transform = _srgb_transform(profile, image.mode)
            if transform is None:
                return image
            converted = ImageCms.applyTransform(image, transform)
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return image.convert("RGB") if image.mode == "CMYK" else image


@functools.lru_cache(maxsize=32)
def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB; None if the profile is sRGB, as most are."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.createProfile("sRGB")
    target_mode = "RGBA" if mode == "RGBA" else "RGB"
    transform = ImageCms.buildTransform(source, target, mode, target_mode)
    if mode == "RGB":
        levels = np.linspace(0, 255, 9).astype(np.uint8)
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(9, 81, 3)
        mapped = ImageCms.applyTransform(Image.fromarray(colors), transform)
        if mapped is not None and abs(np.array(mapped).astype(int) - colors).max() <= 1:
            return None
    return transform


def _read_array(path: str | Path, channels: int | None) -> np.ndarray:
    """Return a .npy array as uint8 [H, W, C]; `channels` None accepts any number of channels."""
    try:
        height, width = values_size(path)
        check_pixels(path, height * width, channels or 3)
        array = np.array(map_array(path))
    except (FileNotFoundError, BadImage):
        raise
    except Exception as error:  # numpy raises ValueError, EOFError, OSError, struct errors
        reason = one_line(error, 120)
        raise BadImage(f"{path}: not a readable array: {reason}", path=path) from None
    if not array.size:
        raise BadImage(f"{path}: an array of {list(array.shape)}, without pixels", path=path)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and channels is not None:
        array = height_width_channels(array, channels)
    if array.ndim != 3 or (channels is not None and array.shape[2] != channels):
        raise BadImage(
            f"{path}: expected an array [H, W, {channels}], got {list(array.shape)}",
            option="data.channels", path=path,
        )  # fmt: skip
    if array.dtype == np.uint16:
        array = np.rint(array / 257.0)
    elif array.dtype.kind == "f":
        array = np.rint(np.clip(np.nan_to_num(array), 0, 1) * 255.0)
    elif array.dtype != np.uint8:
        raise BadImage(
            f"{path}: arrays must be uint8, uint16 or float, got {array.dtype}", path=path
        )
    return np.ascontiguousarray(array, dtype=np.uint8)
