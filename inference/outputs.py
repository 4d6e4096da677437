"""Write translated pictures with the names and in the formats of their inputs."""

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError, one_line
from common.files import write_atomically
from data.reading import composite_on_white
from data.values.raw_values import TIFF_SUFFIXES, map_array
from data.values.value_range import DomainFormat
from inference.picture_translator import to_image

ENCODING = {
    ".webp": {"lossless": True},
    ".avif": {"quality": 95},
    ".jpg": {"quality": 95, "subsampling": 0},
}
ENCODING |= dict.fromkeys((".jpeg", ".jpe", ".jfif", ".mpo"), ENCODING[".jpg"])
OPAQUE = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".ppm", ".pgm", ".pnm"])
WRITTEN_AS_PNG = frozenset([".pfm", ".gif", ".apng", ".pgm"])  # these cannot hold 8-bit RGB


def output_name(name: Path, form: DomainFormat | None = None) -> Path:
    """Return the name for the translation of `name` into a domain of format `form`.

    It is the same, or has a suffix added that can hold the values: .png for 8-bit pictures, .tif
    for others.
    """
    suffix = name.suffix.lower()
    if form is not None and (form.has_range or form.channels > 4):
        can_hold = suffix in (".npy", *TIFF_SUFFIXES) or (
            suffix == ".png" and form.dtype in ("uint8", "uint16") and form.channels <= 4
        )
        return name if can_hold else name.with_name(name.name + ".tif")
    return name.with_name(name.name + ".png") if name.suffix.lower() in WRITTEN_AS_PNG else name


def lossless_names(files: Sequence[Path], folder: Path, form: DomainFormat) -> dict[Path, Path]:
    """Return file -> the name of its translation, relative to `folder`, that holds what is measured.

    Pictures are written as 8-bit PNG and other values in the type of the domain. Names that would
    be the same keep their suffix before the new one.
    """

    def written(name: Path) -> Path:
        if form.has_range or form.channels > 4:
            return output_name(name, form)
        return name if name.suffix.lower() == ".png" else name.with_suffix(".png")

    names = {file: file.relative_to(folder) for file in files}
    chosen = {file: written(name) for file, name in names.items()}
    counts = Counter(str(name).casefold() for name in chosen.values())
    taken = set(counts)
    for file, name in list(chosen.items()):
        if counts[str(name).casefold()] > 1:
            both = names[file].with_name(names[file].name + name.suffix)
            while str(both).casefold() in taken:
                both = both.with_name(both.name + name.suffix)
            taken.add(str(both).casefold())
            chosen[file] = both
    return chosen


def write_picture(path: Path, picture: Image.Image | np.ndarray) -> None:
    """Write a picture, or an array of values [H, W, C], atomically, creating its folder.

    Arrays go to .npy and TIFF as they are, and to 16-bit PNG if they are uint16. UserError if the
    folder or the file cannot be written, or the format cannot hold the picture.
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
    if isinstance(picture, np.ndarray) and suffix in TIFF_SUFFIXES:
        write_tiff(path, picture)
        return
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint16:
        import imagecodecs

        values = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
        encoded_png = imagecodecs.png_encode(np.ascontiguousarray(values))
        write_atomically(path, lambda file: file.write(encoded_png))
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


def write_tiff(path: Path, values: np.ndarray) -> None:
    """Write values [H, W] or [H, W, C] of any type as a TIFF, compressed without loss."""
    import tifffile

    bands = values.shape[2] if values.ndim == 3 else 1
    colors = "rgb" if bands == 3 and values.dtype == np.uint8 else "minisblack"
    encoded = io.BytesIO()
    tifffile.imwrite(
        encoded, values[..., 0] if bands == 1 and values.ndim == 3 else values,
        photometric=colors, planarconfig="contig" if bands > 1 else None, compression="zlib",
    )  # fmt: skip
    write_atomically(path, lambda file: file.write(encoded.getbuffer()))


def like_input(result: np.ndarray, file: Path, channels: int) -> np.ndarray:
    """Return the translation [H, W, C] of an .npy array in the layout of that array.

    [H, W] and [C, H, W] are kept where the number of channels allows it.
    """
    if file.suffix.lower() != ".npy" or result.ndim != 3:
        return result
    shape = map_array(file).shape
    if len(shape) == 2:
        return result[..., 0] if result.shape[2] == 1 else result
    is_channels_first = shape[0] == channels != shape[2]
    return np.ascontiguousarray(result.transpose(2, 0, 1)) if is_channels_first else result
