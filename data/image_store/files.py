"""Decode and resize training images from their files on every access."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.augment import resize_transform
from data.config import DataConfig
from data.reading import BadImage, read_pixels
from data.values.value_range import DomainFormat


class FileStore:
    """Training images by domain and index as [H, W, C], resized for the random crop.

    They are uint8, or float32 in [0, 1] for a domain with a range of values.
    """

    def __init__(self, files: Mapping[str, Sequence[Path]], config: DataConfig) -> None:
        self.files = {domain: list(paths) for domain, paths in files.items()}
        self.config = config
        self.formats = config.formats()
        self.resize = resize_transform(config, config.load_size)

    def pixels(self, domain: str, index: int) -> np.ndarray:
        """Return image number `index` of a domain; BadImage if it cannot be used."""
        return self.read(self.files[domain][index], self.formats[domain])

    def read(self, file: Path, form: DomainFormat) -> np.ndarray:
        """Return the pixels of a file, resized for training; BadImage if it cannot be used."""
        config = self.config
        least = config.load_size if config.fit != "crop" else 0
        try:
            pixels = read_pixels(file, form, least)
        except OSError as error:
            raise BadImage(f"{file}: {error.strerror or error}", path=file) from None
        if config.fit == "crop" and min(pixels.shape[:2]) < config.crop_size:
            raise BadImage(
                too_small(file, pixels.shape[0], pixels.shape[1], config.crop_size),
                path=file, option="data.crop_size",
            )  # fmt: skip
        return self.resize(pixels)


def too_small(path: Path, height: int, width: int, crop: int) -> str:
    """Return the error message for an image that is smaller than the crop."""
    return (
        f"{path}: {width}x{height} is smaller than data.crop_size={crop}; "
        "lower the crop or use data.fit=short_side"
    )


def bytes_of_pixels(pixels: np.ndarray) -> np.ndarray:
    """Return pixels [H, W, C] as uint8, floats with four bytes for each channel."""
    return np.ascontiguousarray(pixels).view(np.uint8)


def pixels_from_bytes(stored: np.ndarray, form: DomainFormat) -> np.ndarray:
    """Return the pixels that `bytes_of_pixels` stored, for a domain of format `form`."""
    if not form.has_range:
        return stored
    return np.frombuffer(stored.tobytes(), np.float32).reshape(*stored.shape[:2], form.channels)
