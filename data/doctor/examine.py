"""Read one image file to the end and keep what a set is judged by: numbers, a fingerprint, a thumbnail."""

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from common.errors import one_line
from common.files import file_sha256
from data.doctor.headers import Header, read_header
from data.doctor.near_duplicates import luminance_thumbnail
from data.reading import FORMATS, MAX_PIXELS, BadImage, composite_on_white, open_image, read_image

LOOKED_AT = 256  # pixels of the short side that colours are measured on, about what is trained on
THUMBNAIL = 128
CONSTANT = 2.0  # levels of deviation; an instance norm multiplies what is below by 60 and more
COLOURLESS = 4  # levels between the channels of a grey picture, after JPEG
NARROW = 3.0  # long side over short side


@dataclass(frozen=True)
class Examined:
    """What is known of one file; `fault` says what stops training on it, and is empty otherwise."""

    path: Path
    fault: str = ""  # unreadable, truncated, too_large or killed
    reason: str = ""  # the fault in a few words
    header: Header | None = None
    oddities: dict[str, str] = field(default_factory=dict)  # finding -> detail
    digest: str = ""  # sha256 of the bytes
    mean: tuple[float, ...] = ()  # R, G, B in 8-bit levels
    spread: tuple[float, ...] = ()  # their deviations over the image
    print: np.ndarray | None = None
    thumbnail: bytes = b""  # JPEG, at most 128x128


def examine(path: Path) -> Examined:
    """Read the file as training would, and return what was seen; nothing is raised for a bad one."""
    if not path.is_file():  # a pipe would be waited for
        return Examined(path, "unreadable", "no file, or not a regular one")
    try:
        header = read_header(path)
    except Exception:  # what is wrong shows again, in words, when the pixels are read
        header = None
    try:
        digest = file_sha256(path)
        pixels = header.width * header.height if header else 0
        if pixels > MAX_PIXELS and not _is_array(path):  # arrays have no limit but the memory
            return Examined(
                path, "too_large", f"{pixels / 1e6:,.0f} megapixels", header, digest=digest
            )
        image = _array_image(path, header) if _is_array(path) else open_image(path)
        return _measured(path, image, header or read_header(path), digest)
    except BadImage as bad:
        return _faulty(path, str(bad).removeprefix(f"{path}: "), header)
    except (OSError, MemoryError) as error:
        return _faulty(path, getattr(error, "strerror", None) or one_line(error), header)
    except Exception as error:  # decoders raise whatever they like, and one file is not the set
        return _faulty(path, one_line(error, 120), header)


def lost(path: Path, reason: str) -> Examined:
    """Return what is known of a file that ended the process which read it."""
    return Examined(path, "killed", reason)


def _faulty(path: Path, reason: str, header: Header | None) -> Examined:
    words = reason.lower()
    fault = "unreadable"
    if "decompression bomb" in words or "is over" in words or "too large" in words:
        fault = "too_large"
        if pixels := re.search(r"\((\d+) pixels\)", reason):
            reason = f"{int(pixels[1]) / 1e6:,.0f} megapixels"
    elif "truncated" in words:
        fault = "truncated"
    if path.is_file() and path.stat().st_size == 0:
        reason = "an empty file"
    reason = reason.removeprefix("cannot be decoded: ").removesuffix(f" ({', '.join(FORMATS)})")
    return Examined(path, fault, reason, header)


def _measured(path: Path, image: Image.Image, header: Header, digest: str) -> Examined:
    oddities = dict(header.oddities)
    if image.mode in ("LA", "RGBA"):
        clear = 1 - image.getchannel("A").histogram()[255] / (image.width * image.height)
        oddities["alpha"] = f"{clear:.0%} of it not opaque" if clear else "opaque everywhere"
    factor = max(1, min(image.size) // LOOKED_AT)
    small = composite_on_white(image.reduce(factor) if factor > 1 else image).convert("RGB")
    mean, spread = _levels(small)
    if max(spread) < CONSTANT:
        dim = "; its samples use little of their range" if "deep" in oddities else ""
        oddities["constant"] = f"deviation of {max(spread):.1f} of 255 levels{dim}"
    if "grey" not in oddities and header.channels == 3 and not _has_colour(small):
        oddities["grey"] = f"{header.mode} without colour"
    if max(image.size) > NARROW * min(image.size):
        oddities["narrow"] = f"{image.width}x{image.height}"
    return Examined(
        path, header=header, oddities=oddities, digest=digest, print=luminance_thumbnail(small),
        mean=mean, spread=spread, thumbnail=_thumbnail(small),
    )  # fmt: skip


def _levels(picture: Image.Image) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the deviation of each channel of an RGB picture."""
    counts = np.array(picture.histogram(), dtype=np.float64).reshape(3, 256)
    shares, levels = counts / counts.sum(1, keepdims=True), np.arange(256.0)
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())


def _has_colour(picture: Image.Image) -> bool:
    """Say whether R, G and B differ by more than compression makes them, in a thousandth of it."""
    red, green, blue = picture.split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    least = ImageChops.darker(ImageChops.darker(red, green), blue)
    apart = ImageChops.subtract(most, least).histogram()
    return sum(apart[COLOURLESS + 1 :]) > 0.001 * sum(apart)


def _is_array(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _array_image(path: Path, header: Header | None) -> Image.Image:
    """Return up to three of an array's channels as a picture."""
    pixels = read_image(path, header.channels if header else 3)
    shown = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return Image.fromarray(np.ascontiguousarray(shown))


def _thumbnail(small: Image.Image) -> bytes:
    shown = small.copy()
    shown.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    shown.save(stream, "JPEG", quality=80)
    return stream.getvalue()
