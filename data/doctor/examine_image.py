"""Read one image file completely and measure what the doctor needs: header, colors, thumbnail."""

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from common.errors import one_line
from common.files import file_sha256
from data.doctor.image_headers import Header, read_header
from data.doctor.near_duplicates import luminance_thumbnail
from data.reading import FORMATS, composite_on_white, open_image
from data.values.bad_image import BadImage
from data.values.measure_ranges import QUANTILES
from data.values.pixel_limit import check_pixels
from data.values.raw_values import file_format, read_values

MEASURED_SIDE = 256  # pixels of the short side on which colors are measured, about a training crop
THUMBNAIL = 128  # pixels
MIN_STD = 2.0  # 8-bit levels; instance norm amplifies what is below this by a factor of 60 or more
MAX_GREY_DIFFERENCE = 4  # levels between the channels of a grey image, after JPEG compression
MAX_ASPECT = 3.0  # long side over short side


@dataclass(frozen=True)
class ExaminedFile:
    """The measurements of one file; `fault` is empty if it can be used for training."""

    path: Path
    fault: str = ""  # unreadable, truncated, too_large or killed
    reason: str = ""  # the fault in a few words
    header: Header | None = None
    oddities: dict[str, str] = field(default_factory=dict)  # name of a finding -> detail
    digest: str = ""  # sha256 of the bytes
    mean: tuple[float, ...] = ()  # R, G, B in 8-bit levels
    std: tuple[float, ...] = ()  # R, G, B in 8-bit levels, over the image
    luminance: np.ndarray | None = None  # float16 [32, 32], see near_duplicates
    thumbnail: bytes = b""  # JPEG, at most 128x128


def examine(path: Path) -> ExaminedFile:
    """Read the file as training would, and return its measurements; never raise for a bad file."""
    if not path.is_file():  # reading a pipe would wait forever
        return ExaminedFile(path, "unreadable", "not a regular file")
    try:
        header = read_header(path)
    except Exception:  # the fault is reported when the pixels are read
        header = None
    try:
        digest = file_sha256(path)
        holds_values = _holds_values(path)
        if header and not holds_values:
            try:
                check_pixels(path, header.width * header.height, size=path.stat().st_size)
            except BadImage as bad:
                reason = str(bad).removeprefix(f"{path}: ")
                return ExaminedFile(path, "too_large", reason, header, digest=digest)
        image = _values_image(path) if holds_values else open_image(path)
        return _measure(path, image, header or read_header(path), digest)
    except BadImage as bad:
        return _faulty(path, str(bad).removeprefix(f"{path}: "), header)
    except (OSError, MemoryError) as error:
        return _faulty(path, getattr(error, "strerror", None) or one_line(error), header)
    except Exception as error:  # decoders raise errors of any type; one file must not end the check
        return _faulty(path, one_line(error, 120), header)


def _faulty(path: Path, reason: str, header: Header | None) -> ExaminedFile:
    """Return the kind of the fault and its reason in a few words, from an error message."""
    words = reason.lower()
    fault = "unreadable"
    if "decompression bomb" in words or "over the limit" in words or "too large" in words:
        fault = "too_large"
        if pixels := re.search(r"\((\d+) pixels\)", reason):
            reason = f"{int(pixels[1]) / 1e6:,.0f} megapixels"
    elif "truncated" in words:
        fault = "truncated"
    if path.is_file() and path.stat().st_size == 0:
        reason = "an empty file"
    reason = reason.removeprefix("cannot be decoded: ").removesuffix(f" ({', '.join(FORMATS)})")
    return ExaminedFile(path, fault, reason, header)


def _measure(path: Path, image: Image.Image, header: Header, digest: str) -> ExaminedFile:
    oddities = dict(header.oddities)
    if image.mode in ("LA", "RGBA"):
        clear = 1 - image.getchannel("A").histogram()[255] / (image.width * image.height)
        oddities["alpha"] = (
            f"{clear:.0%} of the pixels are not opaque" if clear else "all pixels are opaque"
        )
    factor = max(1, min(image.size) // MEASURED_SIDE)
    small = composite_on_white(image.reduce(factor) if factor > 1 else image).convert("RGB")
    mean, std = _mean_and_std(small)
    if max(std) < MIN_STD:
        hint = "; the values use little of their range" if "deep" in oddities else ""
        oddities["constant"] = f"standard deviation of {max(std):.1f} of 255 levels{hint}"
    if "grey" not in oddities and header.channels == 3 and not _has_color(small):
        oddities["grey"] = f"{header.mode} without colour"
    if max(image.size) > MAX_ASPECT * min(image.size):
        oddities["narrow"] = f"{image.width}x{image.height}"
    return ExaminedFile(
        path, header=header, oddities=oddities, digest=digest, luminance=luminance_thumbnail(small),
        mean=mean, std=std, thumbnail=_thumbnail(small),
    )  # fmt: skip


def _mean_and_std(image: Image.Image) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel of an RGB image."""
    counts = np.array(image.histogram(), dtype=np.float64).reshape(3, 256)
    weights, levels = counts / counts.sum(1, keepdims=True), np.arange(256.0)
    mean = weights @ levels
    variance = (weights * (levels - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())


def _has_color(image: Image.Image) -> bool:
    """Return whether R, G and B differ, by more than compression, in over 0.1 % of the pixels."""
    red, green, blue = image.split()
    brightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    differences = ImageChops.subtract(brightest, darkest).histogram()
    return sum(differences[MAX_GREY_DIFFERENCE + 1 :]) > 0.001 * sum(differences)


def _holds_values(path: Path) -> bool:
    """Return whether a file has other values or bands than 8-bit pictures have."""
    return path.suffix.lower() == ".npy" or not file_format(path).is_picture


def _values_image(path: Path) -> Image.Image:
    """Return at most three bands as an RGB image; other values than 8 bits in their own range."""
    form = file_format(path)
    values, valid = read_values(path, form.bands - form.has_alpha)
    if values.dtype != np.uint8:
        known = values[valid].astype(np.float64)
        low, high = np.quantile(known, QUANTILES) if known.size else (0.0, 1.0)
        filled = np.where(valid, values, low)
        values = np.rint(255 * ((filled - low) / (high - low or 1.0)).clip(0, 1)).astype(np.uint8)
    rgb = values[..., :3] if values.shape[2] >= 3 else np.repeat(values[..., :1], 3, axis=2)
    return Image.fromarray(np.ascontiguousarray(rgb))


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return stream.getvalue()
