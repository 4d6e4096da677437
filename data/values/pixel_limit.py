"""Limit the size of pictures by the memory that is free, before they are decoded."""

import os

from PIL import Image

from common.errors import UserError
from common.free_memory import free_ram
from data.values.bad_image import BadImage

ALWAYS_PIXELS = 89_478_485  # a quarter of a gigabyte of RGB: Pillow's own limit
BYTES_PER_PIXEL = 24  # at the peak of decoding and converting three bands of 16 bits
# Of a larger file: a PNG of one color has 340 pixels a byte, a photograph and a map below 20.
MAX_PIXELS_PER_BYTE = 100
VARIABLE = "DIPTYCH_MAX_MEGAPIXELS"  # the option, for this process and those that it starts

Image.MAX_IMAGE_PIXELS = 2**32  # more than any picture: check_pixels has the limit of the memory


def set_max_megapixels(value: float) -> None:
    """Open pictures of up to `value` megapixels; 0: of as many as the free memory allows.

    UserError for a negative number.
    """
    if value < 0:
        raise UserError(f"max_megapixels must be at least 0, got {value}", option="max_megapixels")
    if value:
        os.environ[VARIABLE] = str(value)
    else:
        os.environ.pop(VARIABLE, None)


def check_pixels(path: str | os.PathLike[str], pixels: int, bands: int = 3, size: int = 0) -> None:
    """Raise BadImage if a picture of `pixels` pixels is too large to open.

    Up to 89 megapixels are always opened. Above, max_megapixels is the limit where it is set; else
    the picture must fit into half of the free memory, and its file of `size` bytes (0: not
    compressed) must not be that of a decompression bomb.
    """
    megapixels = pixels / 1e6
    if os.environ.get(VARIABLE):
        if megapixels > max(float(os.environ[VARIABLE]), 0.0):
            raise _too_large(path, megapixels, "above max_megapixels")
        return
    if pixels <= ALWAYS_PIXELS:
        return
    needed, free = pixels * BYTES_PER_PIXEL * max(bands, 3) / 3, free_ram() / 2
    if size and pixels > size * MAX_PIXELS_PER_BYTE:
        what = f"from only {size / 1e6:.1f} MB, as a decompression bomb has"
        raise _too_large(path, megapixels, what)
    if needed > free:
        what = (
            f"they need {needed / 1e9:.1f} GB of memory, half of what is free is {free / 1e9:.1f}"
        )
        raise _too_large(path, megapixels, what)


def _too_large(path: str | os.PathLike[str], megapixels: float, reason: str) -> BadImage:
    return BadImage(
        f"{path}: it is over the limit: {megapixels:,.0f} megapixels, {reason}; make it smaller, or "
        f"open it with max_megapixels={megapixels + 1:.0f} (in training data.max_megapixels)",
        option="max_megapixels", path=path,
    )  # fmt: skip
