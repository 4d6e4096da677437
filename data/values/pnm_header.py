"""Read the headers of PNM files (PBM, PGM, PPM, PFM), which Pillow reads byte by byte."""

import re
from pathlib import Path

MAX_HEADER = 2**16  # bytes, with comments
MAGIC = re.compile(rb"P[1-6fF]\s")
_SPACE = rb"(?:\s|#[^\n]*\n)+"
_SIZE = rb"P[1-6fF]" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)"
SIZE = re.compile(_SIZE)
COLOR = re.compile(_SIZE.replace(b"[1-6fF]", b"6") + _SPACE + rb"(\d+)\s")


def has_no_size(start: bytes) -> bool:
    """Return whether the first bytes are those of a PNM file that consists of comments."""
    return MAGIC.match(start) is not None and SIZE.match(start[:MAX_HEADER]) is None


def read_start(path: str | Path) -> bytes:
    """Return the header of a PNM file, with what follows; of other files only three bytes."""
    with open(path, "rb") as file:
        start = file.read(3)
        return start + file.read(MAX_HEADER) if MAGIC.match(start) else start


def deep_color_size(path: str | Path) -> tuple[int, int, int] | None:
    """Return width, height and the place of the pixels of a PPM of 16 bits; None for other files.

    Pillow reads such a file with 8 bits.
    """
    header = COLOR.match(read_start(path))
    if header is None or int(header[3]) <= 255:
        return None
    return int(header[1]), int(header[2]), header.end()
