"""What is odd about one image file, as far as its first bytes and its metadata tell."""

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

HEAD = 4096  # bytes in which a format says how deep its samples are
KINDS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "MPO": (".mpo", ".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"), "WEBP": (".webp",), "BMP": (".bmp",), "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",), "PPM": (".ppm", ".pgm", ".pnm", ".pfm"), "AVIF": (".avif",),
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """A file's format and size as displayed, and finding -> detail for what is odd about it."""

    format: str  # Pillow's name of it, or NPY
    mode: str  # Pillow's name of how the samples are kept
    width: int
    height: int
    channels: int
    oddities: dict[str, str]


def read_header(path: Path, fully: bool = True) -> Header:
    """Return what the header of `path` says; whatever a decoder raises where there is none.

    Without `fully` nothing is decoded: further frames, and an orientation that a PNG names behind its
    pixels, are missed.
    """
    if path.suffix.lower() == ".npy":
        return _array_header(path)
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        with open(path, "rb") as file:
            head = file.read(HEAD)
        with Image.open(path, formats=FORMATS) as image:
            oddities = _colour_oddities(image, _bits(image, head))
            width, height = image.size
            orientation = _orientation(image, head, fully)
            if 2 <= orientation <= 8:
                oddities["exif_turned"] = f"EXIF orientation {orientation}"
            if orientation in range(5, 9):
                width, height = height, width
            kind = image.format or "?"
            if path.suffix.lower() not in KINDS.get(kind, ()):
                oddities["misnamed"] = f"{kind} content"
            if fully and _several_frames(image):
                oddities["animated"] = f"{kind} of several frames"
            channels, mode = 1 if "grey" in oddities else 3, image.mode
    harmless = (Image.DecompressionBombWarning, ResourceWarning)  # a bomb is named as such
    texts = [str(w.message).strip() for w in complaints if not issubclass(w.category, harmless)]
    if texts:
        oddities["metadata"] = texts[0].splitlines()[0][:120] if texts[0] else "damaged"
    return Header(kind, mode, width, height, channels, oddities)


def _array_header(path: Path) -> Header:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim not in (2, 3):
        raise ValueError(f"expected an array [H, W, C], got {list(array.shape)}")
    channels = array.shape[2] if array.ndim == 3 else 1
    oddities = {"deep": f"{array.dtype} samples"} if array.dtype != np.uint8 else {}
    if channels == 1:
        oddities["grey"] = "an array of one channel"
    return Header("NPY", str(array.dtype), array.shape[1], array.shape[0], channels, oddities)


def _colour_oddities(image: Image.Image, bits: int) -> dict[str, str]:
    """Return what is odd about how the samples are kept."""
    mode, found = image.mode, {}
    if bits > 8:
        found["deep"] = f"{bits} bits a sample"
    if mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info:
        found["alpha"] = f"mode {mode}"
    if mode in ("1", "L", "LA", "La", "F") or mode.startswith("I"):
        found["grey"] = f"mode {mode}"
    if mode in ("P", "PA", "CMYK", "LAB", "HSV"):
        found["colour_space"] = {"P": "palette", "PA": "palette", "LAB": "CIE Lab"}.get(mode, mode)
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile and (name := _foreign_profile(profile, mode)):
        found["icc"] = name
    return found


@functools.lru_cache(maxsize=64)
def _foreign_profile(profile: bytes, mode: str) -> str:
    """Return the name of an ICC profile that changes the numbers, or is broken; "" for sRGB's own."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip() or "a profile without a name"
    except (ImageCms.PyCMSError, OSError, ValueError):
        return "a broken profile, which is ignored"
    if mode == "CMYK":
        return name
    if mode not in ("RGB", "RGBA", "P"):
        return ""  # the reader leaves greys as they are
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(9, 81, 3)
    colours = Image.fromarray(cube)
    colours.info["icc_profile"] = profile
    moved = int(abs(np.asarray(to_upright_srgb(colours).convert("RGB")).astype(int) - cube).max())
    return f"{name}, up to {moved} levels from sRGB" if moved > 1 else ""


def _bits(image: Image.Image, head: bytes) -> int:
    """Return the bits of a sample in the file, which Pillow's mode does not always tell."""
    if image.format == "PNG" and len(head) > 24:
        return head[24]
    if image.format == "TIFF":
        tags: Any = image
        bits = tags.tag_v2.get(258, (8,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
    if image.format == "PPM" and image.mode != "F":
        top = re.match(rb"P[2356]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s+(\d+)", head)
        return int(top[1]).bit_length() if top else 8
    if image.format == "AVIF" and (box := head.find(b"pixi")) >= 0:
        return head[box + 9 : box + 10][0] if len(head) > box + 9 else 8
    return 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I") else 8


def _orientation(image: Image.Image, head: bytes, fully: bool) -> int:
    # Pillow decodes a whole PNG to look for EXIF behind its pixels.
    if not fully and image.format == "PNG" and not (b"eXIf" in head or b"Raw profile" in head):
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception as error:  # parsers of metadata raise whatever they like
        warnings.warn(f"EXIF cannot be read: {one_line(error, 80)}", stacklevel=2)
        return 1


def _several_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame is none; the first one is what counts
        return False
