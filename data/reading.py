"""Read one image file into upright 8-bit sRGB pixels, or say in one line why not."""

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

from common.errors import UserError, one_line

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")  # JPEG opens MPO too
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
ORIENTED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # where it is said
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it would print, BadImage says
_REDIRECTING = threading.Lock()  # file 2 belongs to the whole process
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485  # Pillow's own bound, an error here


class BadImage(UserError):
    """A file that is no readable image; the text names it and the reason."""


def read_image(path: str | Path, channels: int = 3, least: int = 0) -> np.ndarray:
    """Return the pixels of `path` as a writable uint8 array [H, W, channels].

    EXIF orientation is applied, an ICC profile is converted to sRGB, 16-bit and float samples are
    scaled (not clipped) to 8 bits, transparency is laid over white unless `channels` keeps it. Of an
    animation or a multi-page file the first frame counts. 1 channel is luminance, 2 luminance and
    alpha, 3 RGB, 4 RGBA; a `.npy` array [H, W, channels] (uint8, uint16, or float in 0 to 1) has any
    number. With `least`, a JPEG of at least twice that many pixels on both sides is decoded at a half,
    a quarter or an eighth of its size, which is faster and free of aliasing. BadImage names the file
    where it cannot be decoded fully or is over 89 megapixels.
    """
    if str(path).lower().endswith(".npy"):
        return _read_array(path, channels)
    return pixels_of(open_image(path, least=least), channels, path)


def open_image(
    source: str | Path | io.BytesIO, name: str | Path | None = None, least: int = 0
) -> Image.Image:
    """Decode the file fully and return it upright, in sRGB, with 8 bits a sample.

    The result's mode is L, LA, RGB or RGBA: what the file holds, neither more nor less.
    """
    if name is None:
        name = "the picture" if isinstance(source, io.BytesIO) else source
    with warnings.catch_warnings():
        # Pillow warns of harmless oddities (bad EXIF, odd metadata); what harms, raises.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(source, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadImage(
                        f"{name}: {image.width}x{image.height} is over {MAX_PIXELS} pixels; make it "
                        "smaller first"
                    )
                if least:
                    image.draft(None, (least, least))
                with _quiet_libtiff(image.format):
                    image.load()
                return to_upright_srgb(image)
        except (BadImage, FileNotFoundError):
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise BadImage(
                f"{name}: it is over {MAX_PIXELS} pixels; make it smaller first"
            ) from None
        except Image.UnidentifiedImageError:
            raise BadImage(
                f"{name}: not an image that can be read ({', '.join(FORMATS)})"
            ) from None
        except (
            Exception
        ) as error:  # decoders raise whatever they like: struct, Syntax, OS, Value...
            raise BadImage(f"{name}: cannot be decoded: {one_line(error, 120)}") from None


@contextlib.contextmanager
def _quiet_libtiff(kind: str | None) -> Iterator[None]:
    """Send file 2 nowhere while a TIFF is decoded: libtiff writes there by itself what BadImage says."""
    with _REDIRECTING if kind == "TIFF" else contextlib.nullcontext():
        try:
            kept = os.dup(2) if kind == "TIFF" else None
        except OSError:  # closed: then nobody is told anything
            kept = None
        if kept is None:
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def to_upright_srgb(image: Image.Image) -> Image.Image:
    """Return a decoded image as displayed: upright, in sRGB, 8 bits a sample, in L, LA, RGB or RGBA."""
    return _to_srgb(_to_8_bit(apply_exif_orientation(image)))


def pixels_of(image: Image.Image, channels: int, name: str | Path = "image") -> np.ndarray:
    """Return an upright image's pixels as uint8 [H, W, channels] (see `read_image`)."""
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    if channels not in modes:
        raise BadImage(f"{name}: an image file has 1 to 4 channels, {channels} need .npy arrays")
    if channels in (1, 3):
        image = composite_on_white(image)
    pixels = np.array(image if image.mode == modes[channels] else image.convert(modes[channels]))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def composite_on_white(image: Image.Image) -> Image.Image:
    """Lay an image with transparency over white; one without stays as it is."""
    if image.mode not in ("LA", "RGBA"):
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) as displayed, from the header alone; BadImage where there is none."""
    if str(path).lower().endswith(".npy"):
        height, width = _read_array(path, None).shape[:2]
        return height, width
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                turned = _orientation(image) >= 5
                return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:  # see open_upright
        raise BadImage(f"{path}: cannot be read: {one_line(error, 120)}") from None


def apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Return an image upright, as its EXIF orientation says."""
    turn = TURNS.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    for name in ORIENTED:  # or it would be turned again by whoever asks next
        turned.info.pop(name, None)
    return turned


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; unreadable EXIF says nothing, and 1 is upright."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # see open_upright
        return 1
    return found if found in TURNS else 1


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Bring 16-bit, 32-bit and float greys, palettes, CMYK and Lab to L, LA, RGB or RGBA."""
    if image.mode.startswith("I") or image.mode == "F":
        samples = np.asarray(image, dtype=np.float64)
        # Greys above the format's 8 bits; float files hold 0..1, 0..255 or 0..65535.
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
    """Convert by the embedded ICC profile; a broken or missing profile leaves the numbers alone."""
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
    """Return the way from a profile to sRGB; None where it is sRGB already, as most of them are."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.createProfile("sRGB")
    to = "RGBA" if mode == "RGBA" else "RGB"
    transform = ImageCms.buildTransform(source, target, mode, to)
    if mode == "RGB":
        levels = np.linspace(0, 255, 9).astype(np.uint8)
        colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(9, 81, 3)
        mapped = ImageCms.applyTransform(Image.fromarray(colours), transform)
        if mapped is not None and abs(np.array(mapped).astype(int) - colours).max() <= 1:
            return None
    return transform


def _read_array(path: str | Path, channels: int | None) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy raises ValueError, EOFError, OSError, struct errors
        raise BadImage(f"{path}: not a readable array: {one_line(error, 120)}") from None
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or (channels is not None and array.shape[2] != channels):
        raise BadImage(f"{path}: expected an array [H, W, {channels}], got {list(array.shape)}")
    if array.dtype == np.uint16:
        array = np.rint(array / 257.0)
    elif array.dtype.kind == "f":
        array = np.rint(np.clip(np.nan_to_num(array), 0, 1) * 255.0)
    elif array.dtype != np.uint8:
        raise BadImage(f"{path}: arrays must be uint8, uint16 or float, got {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.uint8)
