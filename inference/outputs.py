"""Write translated pictures with the names and in the formats of their inputs."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError, one_line
from common.files import write_atomically
from data.reading import composite_on_white
from inference.picture_translator import to_image

ENCODING = {
    ".webp": {"lossless": True},
    ".avif": {"quality": 95},
    ".jpg": {"quality": 95, "subsampling": 0},
}
ENCODING |= dict.fromkeys((".jpeg", ".jpe", ".jfif", ".mpo"), ENCODING[".jpg"])
OPAQUE = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".ppm", ".pgm", ".pnm"])
WRITTEN_AS_PNG = frozenset([".pfm", ".gif", ".apng", ".pgm"])  # these cannot hold 8-bit RGB


def output_name(name: Path) -> Path:
    """Return the name for the translation of `name`: the same, or with .png added."""
    return name.with_name(name.name + ".png") if name.suffix.lower() in WRITTEN_AS_PNG else name


def write_picture(path: Path, picture: Image.Image | np.ndarray) -> None:
    """Write a picture (or, to .npy, uint8 [H, W, C]) atomically, creating its folder.

    UserError if the folder or the file cannot be written, or the format cannot hold the picture.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path.parent}: cannot be created ({error.strerror}); choose another output",
            path=path.parent,
        ) from None
    suffix = path.suffix.lower()
    if suffix == ".npy":
        pixels = np.array(picture)
        write_atomically(path, lambda file: np.save(file, pixels, allow_pickle=False))
        return
    image = to_image(picture) if isinstance(picture, np.ndarray) else picture
    if suffix in OPAQUE:
        image = composite_on_white(image)
    elif image.mode == "LA" and suffix == ".webp":
        image = image.convert("RGBA")
    registered = Image.registered_extensions()
    kind = (
        {"MPO": "JPEG"}.get(registered[suffix], registered[suffix])
        if suffix in registered
        else "PNG"
    )
    encoded = io.BytesIO()
    try:
        image.save(encoded, kind, **ENCODING.get(suffix, {}))
    except (OSError, ValueError) as error:  # a side too long for the format, most often
        raise UserError(
            f"{path}: {kind} cannot hold this picture ({one_line(error, 80)}); use another format",
            path=path,
        ) from None
    write_atomically(path, lambda file: file.write(encoded.getbuffer()))
