"""Fuzz image files: a damaged file or a false header gives valid pixels or BadImage in one line."""

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data.reading import BadImage, image_size, read_image
from reliability.fuzz_harness import Case
from reliability.mutate_bytes import damaged

SUFFIX = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "GIF": "gif"}
MAX_SEED_BYTES = 200_000  # larger files of --images would only make the cases slow
SIDES = (0, 1, 255, 9_000, 40_000, 65_535, 2**31 - 1, 2**32 - 1)  # that a false header claims


def valid_files(folder: Path | None) -> list[tuple[str, bytes]]:
    """Return (suffix, bytes) of small valid files of every format and mode, and of `folder`."""
    random_pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 4), dtype=np.uint8)
    colors = Image.fromarray(random_pixels).resize((80, 48), Image.Resampling.BILINEAR)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    variants: list[tuple[str, str, dict]] = [
        ("JPEG", "RGB", {"exif": exif}), ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "CMYK", {}), ("JPEG", "L", {"dpi": (72, 72)}), ("PNG", "RGBA", {}),
        ("PNG", "P", {"transparency": 0}), ("PNG", "1", {}), ("PNG", "LA", {"exif": exif}),
        ("PNG", "I;16", {}), ("PNG", "RGB", {"optimize": True}), ("WEBP", "RGB", {"exif": exif}),
        ("WEBP", "RGBA", {"lossless": True}), ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "L", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "1", {"compression": "group4"}), ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "F", {}), ("TIFF", "CMYK", {"compression": "packbits"}), ("BMP", "RGB", {}),
        ("BMP", "P", {}), ("BMP", "1", {}), ("GIF", "P", {}),
        ("GIF", "P", {"save_all": True, "append_images": [colors.convert("P")]}),
    ]  # fmt: skip
    files = []
    for kind, mode, options in variants:
        stream = io.BytesIO()
        grey_or_rgba = colors.convert("L") if mode in ("I;16", "F") else colors.convert("RGBA")
        image = grey_or_rgba if mode == "RGBA" else grey_or_rgba.convert(mode)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.save(stream, kind, **options)
        files.append((SUFFIX[kind], stream.getvalue()))
    for path in sorted(folder.iterdir()) if folder else ():
        if path.is_file() and 0 < path.stat().st_size <= MAX_SEED_BYTES:
            files.append((path.suffix[1:].lower() or "none", path.read_bytes()))
    return files


def cases(count: int, seed: int, folder: Path | None = None) -> Iterator[Case]:
    """Yield a valid file, then damaged ones; every fourth has a false header."""
    valid = valid_files(folder)
    yield Case(f"valid.{valid[0][0]}", valid[0][1])
    for number in range(count - 1):
        draw = random.Random(f"images/{seed}/{number}")
        suffix, content = draw.choice(valid)
        damage_header = HEADER_DAMAGE.get(suffix)
        # A file of --images may be too short to have a header.
        if number % 4 == 0 and damage_header and len(content) > 64:
            label, content = "header", damage_header(content, draw)
        else:
            others = [other for kind, other in valid if kind == suffix]
            label, content = damaged(content, others, draw)
            if draw.random() < 0.3 and content:
                second, content = damaged(content, others, draw)
                label += f"_{second}"
        yield Case(f"{label}.{suffix}", content)


def damage_png_header(content: bytes, draw: random.Random) -> bytes:
    """Change the width, height, depth or colour type, and correct the checksum."""
    header = bytearray(content[16:29])
    field = draw.randrange(4)
    if field < 2:
        header[field * 4 : field * 4 + 4] = struct.pack(">I", draw.choice(SIDES))
    else:
        header[6 + field] = draw.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return content[:16] + bytes(header) + checksum + content[33:]


def damage_jpeg_header(content: bytes, draw: random.Random) -> bytes:
    """Change the height, width or component count in the frame header."""
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    if frame < 0:
        return content[:3] + draw.randbytes(20) + content[23:]
    changed = bytearray(content)
    at = frame + draw.choice((5, 7))
    changed[at : at + 2] = struct.pack(">H", draw.choice(SIDES) & 0xFFFF)
    if draw.random() < 0.2:
        changed[frame + 9] = draw.randrange(256)
    return bytes(changed)


def damage_at(offsets: tuple[int, ...], form: str) -> Callable[[bytes, random.Random], bytes]:
    """Return a function that writes a size in the struct format `form` at one of the offsets."""
    width = struct.calcsize(form)

    def damage(content: bytes, draw: random.Random) -> bytes:
        at = draw.choice(offsets)
        side = draw.choice(SIDES) & (256**width - 1)
        return content[:at] + struct.pack(form, side) + content[at + width :]

    return damage


def damage_tiff_header(content: bytes, draw: random.Random) -> bytes:
    """Change an entry of the first directory, often a size."""
    order = "<" if content[:2] == b"II" else ">"
    start = struct.unpack(order + "I", content[4:8])[0]
    if start + 2 > len(content):
        return content[: len(content) // 2]
    count = struct.unpack(order + "H", content[start : start + 2])[0]
    at = start + 2 + 12 * draw.randrange(max(min(count, 30), 1)) + draw.choice((2, 4, 8, 8, 8))
    return content[:at] + struct.pack(order + "I", draw.choice(SIDES)) + content[at + 4 :]


HEADER_DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "png": damage_png_header,
    "jpg": damage_jpeg_header,
    "tif": damage_tiff_header,
    "tiff": damage_tiff_header,
    "bmp": damage_at((2, 10, 14, 18, 22, 26, 28, 46), "<I"),
    "gif": damage_at((6, 8), "<H"),
    "webp": damage_at((4, 16, 24, 26), "<I"),
}


def check(path: Path) -> str:
    """Read the file at full and at reduced size, and check that its pixels are as documented."""
    try:
        pixels = read_image(path)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        assert pixels.size and pixels.flags.writeable
        if path.suffix != ".npy":
            assert image_size(path) == pixels.shape[:2], "the size in the header differs"
        assert read_image(path, 1, least=16).shape[2] == 1
        return "read"
    except BadImage as bad:
        text = str(bad)
        assert path.name in text, f"the error does not name the file: {text}"
        one_short_line = "\n" not in text and len(text) < len(str(path)) + 250
        assert one_short_line, f"the error is not one short line: {text}"
        return "refused"
