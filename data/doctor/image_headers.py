"""Read format, size and oddities of one image file from its header and its metadata."""

import functools
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from common.errors import one_line
from data.reading import FORMATS, ORIENTATION, to_upright_srgb
from data.values.raw_values import FileFormat, file_format, values_size

HEADER_BYTES = 4096  # enough to contain the bit depth in every format
FORMAT_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "MPO": (".mpo", ".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"), "WEBP": (".webp",), "BMP": (".bmp",), "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",), "PPM": (".ppm", ".pgm", ".pnm", ".pfm"), "AVIF": (".avif",),
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """The format of a file, its size as displayed, and its oddities."""

    format: str  # as Pillow names it, or NPY
    mode: str  # Pillow's mode, or the dtype of an array
    width: int
    height: int
    channels: int
    oddities: dict[str, str]  # name of a finding -> detail


def read_header(path: Path, fully: bool = True) -> Header:
    """Return the header of `path`; a file without a valid one raises the error of its decoder.

    Without `fully` nothing is decoded; this misses further frames, and the EXIF orientation of a
    PNG that stores it after its pixels.
    """
    form = file_format(path)
    is_array = path.suffix.lower() == ".npy"
    # Pillow knows more about the others: profiles, orientation, frames.
    if is_array or (not form.is_picture and form.bands - form.has_alpha not in (1, 3)):
        return _values_header(path, form)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open(path, "rb") as file:
            head = file.read(HEADER_BYTES)
        with Image.open(path, formats=FORMATS) as image:
            oddities = _pixel_oddities(image, _bit_depth(image, head))
            width, height = image.size
            orientation = _orientation(image, head, fully)
            if 2 <= orientation <= 8:
                oddities["exif_turned"] = f"EXIF orientation {orientation}"
            if orientation in range(5, 9):
                width, height = height, width
            kind = image.format or "?"
            if path.suffix.lower() not in FORMAT_SUFFIXES.get(kind, ()):
                oddities["misnamed"] = f"{kind} content"
            if fully and _has_several_frames(image):
                oddities["animated"] = f"{kind} with several frames"
            channels, mode = 1 if "grey" in oddities else 3, image.mode
    ignored = (Image.DecompressionBombWarning, ResourceWarning)  # a bomb is reported as too large
    texts = [str(w.message).strip() for w in caught if not issubclass(w.category, ignored)]
    if texts:
        oddities["metadata"] = texts[0].splitlines()[0][:120] if texts[0] else "damaged"
    return Header(kind, mode, width, height, channels, oddities)


def _values_header(path: Path, form: FileFormat) -> Header:
    """Return the header of a file with other values or bands than 8-bit pictures have."""
    height, width = values_size(path)
    channels = form.bands - form.has_alpha
    oddities = {"deep": f"{form.dtype} values"} if form.dtype != "uint8" else {}
    if form.pages > 1:
        oddities["animated"] = f"{form.pages} pages"
    if channels == 1:
        oddities["grey"] = "one band"
    kind = "NPY" if path.suffix.lower() == ".npy" else path.suffix[1:].upper()
    return Header(kind, form.dtype, width, height, channels, oddities)


def _pixel_oddities(image: Image.Image, bits: int) -> dict[str, str]:
    """Return the oddities of the pixel format: bit depth, alpha, grey, color space, profile."""
    mode, found = image.mode, {}
    if bits > 8:
        found["deep"] = f"{bits} bits per channel"
    if mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info:
        found["alpha"] = f"mode {mode}"
    if mode in ("1", "L", "LA", "La", "F") or mode.startswith("I"):
        found["grey"] = f"mode {mode}"
    if mode in ("P", "PA", "CMYK", "LAB", "HSV"):
        found["colour_space"] = {"P": "palette", "PA": "palette", "LAB": "CIE Lab"}.get(mode, mode)
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile and (name := _non_srgb_profile(profile, mode)):
        found["icc"] = name
    return found


@functools.lru_cache(maxsize=64)
def _non_srgb_profile(profile: bytes, mode: str) -> str:
    """Describe an ICC profile that is broken or changes pixel values; return "" for sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip() or "an unnamed profile"
    except (ImageCms.PyCMSError, OSError, ValueError):
        return "a broken profile, which is ignored"
    if mode == "CMYK":
        return name
    if mode not in ("RGB", "RGBA", "P"):
        return ""  # profiles of grey images are not applied
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(9, 81, 3)
    colors = Image.fromarray(cube)
    colors.info["icc_profile"] = profile
    converted = np.asarray(to_upright_srgb(colors).convert("RGB")).astype(int)
    change = int(abs(converted - cube).max())
    return f"{name}, differs from sRGB by up to {change} levels" if change > 1 else ""


def _bit_depth(image: Image.Image, head: bytes) -> int:
    """Return the bits per channel in the file; Pillow's mode has fewer in some formats."""
    if image.format == "PNG" and len(head) > 24:
        return head[24]
    if image.format == "TIFF":
        tags: Any = image
        bits = tags.tag_v2.get(258, (8,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
    if image.format == "PPM" and image.mode != "F":
        max_value = re.match(rb"P[2356]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s+(\d+)", head)
        return int(max_value[1]).bit_length() if max_value else 8
    if image.format == "AVIF" and (box := head.find(b"pixi")) >= 0:
        return head[box + 9 : box + 10][0] if len(head) > box + 9 else 8
    return 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I") else 8


def _orientation(image: Image.Image, head: bytes, fully: bool) -> int:
    # Pillow decodes a PNG completely to find EXIF that is stored after its pixels.
    if not fully and image.format == "PNG" and not (b"eXIf" in head or b"Raw profile" in head):
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception as error:  # metadata parsers raise errors of any type
        warnings.warn(f"EXIF cannot be read: {one_line(error, 80)}", stacklevel=2)
        return 1


def _has_several_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the second frame is damaged; only the first one is used
        return False
