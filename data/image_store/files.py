"""Decode and resize training images from their files on every access."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.augment import resize_transform
from data.config import DataConfig
from data.reading import BadImage, read_image


class FileStore:
    """Training images by domain and index as uint8 [H, W, C], resized for the random crop."""

    def __init__(self, files: Mapping[str, Sequence[Path]], config: DataConfig) -> None:
        self.files = {domain: list(paths) for domain, paths in files.items()}
        self.config = config
        self.channels = config.channels_of()
        self.resize = resize_transform(config, config.load_size)

    def pixels(self, domain: str, index: int) -> np.ndarray:
        """Return image number `index` of a domain; BadImage if it cannot be used."""
        return self.read(self.files[domain][index], self.channels[domain])

    def read(self, file: Path, channels: int) -> np.ndarray:
        """Return the pixels of a file, resized for training; BadImage if it cannot be used."""
        config = self.config
        least = config.load_size if config.fit != "crop" else 0
        try:
            pixels = read_image(file, channels, least)
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
