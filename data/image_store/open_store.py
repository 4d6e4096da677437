"""Select where decoded training images come from: their files, memory, or a cache on disk."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data.config import DataConfig
from data.image_store.disk import DiskStore
from data.image_store.files import FileStore
from data.image_store.memory import MemoryStore


class ImageStore(Protocol):
    """Decoded training images by domain and index."""

    def pixels(self, domain: str, index: int) -> np.ndarray:
        """Return image number `index` of a domain as [H, W, C], not to be modified.

        It is uint8, or float32 in [0, 1] for a domain with a range of values.
        """
        ...


def open_image_store(
    files: Mapping[str, Sequence[Path]], config: DataConfig,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> ImageStore:  # fmt: skip
    """Return the store that data.disk_cache and data.memory_cache_gb select.

    With data.disk_cache all images are decoded now; `progress` wraps the iteration over them.
    UserError if the folder cannot be written, BadImage if an image cannot be used.
    """
    source = FileStore(files, config)
    if config.disk_cache:
        return DiskStore(source, Path(config.disk_cache), progress)
    if config.memory_cache_gb:
        return MemoryStore(source, int(config.memory_cache_gb * 1e9))
    return source
