"""Damaged, cut, spliced and lying image files: right pixels, or BadImage in one line."""

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
from reliability.mutate import damaged

Formats = list[tuple[str, dict]]
SUFFIX = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "GIF": "gif"}
LARGEST_SEED = 200_000  # bytes: a larger file of --images only makes cases slow
SIDES = (0, 1, 255, 9_000, 40_000, 65_535, 2**31 - 1, 2**32 - 1)  # claimed by a lying header


def seeds(folder: Path | None) -> list[tuple[str, bytes]]:
    """Return (suffix, bytes) of small sound files of every format and mode, and those of `folder`."""
    random_pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 4), dtype=np.uint8)
    colours = Image.fromarray(random_pixels).resize((80, 48), Image.Resampling.BILINEAR)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    plans: list[tuple[str, str, dict]] = [
        ("JPEG", "RGB", {"exif": exif}), ("JPEG", "RGB", {"progressive": True}), ("JPEG", "CMYK", {}),
        ("JPEG", "L", {"dpi": (72, 72)}), ("PNG", "RGBA", {}), ("PNG", "P", {"transparency": 0}),
        ("PNG", "1", {}),
        ("PNG", "LA", {"exif": exif}), ("PNG", "I;16", {}), ("PNG", "RGB", {"optimize": True}),
        ("WEBP", "RGB", {"exif": exif}), ("WEBP", "RGBA", {"lossless": True}), ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "L", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "1", {"compression": "group4"}), ("TIFF", "RGB", {"compression": "jpeg"}), ("TIFF", "F", {}),
        ("TIFF", "CMYK", {"compression": "packbits"}), ("BMP", "RGB", {}), ("BMP", "P", {}), ("BMP", "1", {}),
        ("GIF", "P", {}), ("GIF", "P", {"save_all": True, "append_images": [colours.convert("P")]}),
    ]  # fmt: skip
    found = []
    for kind, mode, options in plans:
        stream = io.BytesIO()
        plain = colours.convert("L") if mode in ("I;16", "F") else colours.convert("RGBA")
        image = plain if mode == "RGBA" else plain.convert(mode)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.save(stream, kind, **options)
        found.append((SUFFIX[kind], stream.getvalue()))
    for path in sorted(folder.iterdir()) if folder else ():
        if path.is_file() and 0 < path.stat().st_size <= LARGEST_SEED:
            found.append((path.suffix[1:].lower() or "none", path.read_bytes()))
    return found


def cases(count: int, seed: int, folder: Path | None = None) -> Iterator[Case]:
    """Yield damaged files; every fourth has a header that lies."""
    sound = seeds(folder)
    yield Case(f"sound.{sound[0][0]}", sound[0][1])
    for number in range(count - 1):
        draw = random.Random(f"images/{seed}/{number}")
        suffix, content = draw.choice(sound)
        lie = LIES.get(suffix)
        if number % 4 == 0 and lie and len(content) > 64:  # some of --images are no images
            done, content = "header", lie(content, draw)
        else:
            others = [other for kind, other in sound if kind == suffix]
            done, content = damaged(content, others, draw)
            if draw.random() < 0.3 and content:
                again, content = damaged(content, others, draw)
                done += f"_{again}"
        yield Case(f"{done}.{suffix}", content)


def png(content: bytes, draw: random.Random) -> bytes:
    """Write another width, height, depth or colour type, with a checksum that is right."""
    header = bytearray(content[16:29])
    field = draw.randrange(4)
    if field < 2:
        header[field * 4 : field * 4 + 4] = struct.pack(">I", draw.choice(SIDES))
    else:
        header[6 + field] = draw.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return content[:16] + bytes(header) + checksum + content[33:]


def jpeg(content: bytes, draw: random.Random) -> bytes:
    """Write another height, width or component count into the frame header."""
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    if frame < 0:
        return content[:3] + draw.randbytes(20) + content[23:]
    changed = bytearray(content)
    at = frame + draw.choice((5, 7))
    changed[at : at + 2] = struct.pack(">H", draw.choice(SIDES) & 0xFFFF)
    if draw.random() < 0.2:
        changed[frame + 9] = draw.randrange(256)
    return bytes(changed)


def at_offsets(offsets: tuple[int, ...], form: str) -> Callable[[bytes, random.Random], bytes]:
    """Return a lie that writes a side in `form` at one of the offsets."""
    width = struct.calcsize(form)

    def lie(content: bytes, draw: random.Random) -> bytes:
        at = draw.choice(offsets)
        side = draw.choice(SIDES) & (256**width - 1)
        return content[:at] + struct.pack(form, side) + content[at + width :]

    return lie


def tiff(content: bytes, draw: random.Random) -> bytes:
    """Write another value into an entry of the first directory, often the sizes."""
    order = "<" if content[:2] == b"II" else ">"
    start = struct.unpack(order + "I", content[4:8])[0]
    if start + 2 > len(content):
        return content[: len(content) // 2]
    count = struct.unpack(order + "H", content[start : start + 2])[0]
    at = start + 2 + 12 * draw.randrange(max(min(count, 30), 1)) + draw.choice((2, 4, 8, 8, 8))
    return content[:at] + struct.pack(order + "I", draw.choice(SIDES)) + content[at + 4 :]


LIES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "png": png, "jpg": jpeg, "tif": tiff, "tiff": tiff, "bmp": at_offsets((2, 10, 14, 18, 22, 26, 28,
    46), "<I"),
    "gif": at_offsets((6, 8), "<H"), "webp": at_offsets((4, 16, 24, 26), "<I"),
}  # fmt: skip


def judge(path: Path) -> str:
    """Read the file, whole and reduced; its pixels must be as they are promised."""
    try:
        pixels = read_image(path)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        assert pixels.size and pixels.flags.writeable
        if path.suffix != ".npy":
            assert image_size(path) == pixels.shape[:2], "the header's size is another"
        assert read_image(path, 1, least=16).shape[2] == 1
        return "read"
    except BadImage as bad:
        text = str(bad)
        assert path.name in text, f"the line does not name the file: {text}"
        assert "\n" not in text and len(text) < len(str(path)) + 250, f"not one line: {text}"
        return "refused"
