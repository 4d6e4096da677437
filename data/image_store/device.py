"""Training images in the device's memory: decoded and resized once, cropped and mirrored there."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from data.config import DataConfig
from data.image_store.open_store import open_image_store
from data.loader import positions
from data.samples import UnpairedSamples
from data.tensors import to_tensor


class DeviceSamples(UnpairedSamples):
    """The samples of `UnpairedSamples`, to the pixel, without reading processes or copies.

    For sets that fit the device's memory: 1,000 images of 286 pixels take 0.25 GB. Crops and flips are
    those the augmentation library draws for a sample's key; rotation and colour need it whole.
    """

    def __init__(
        self, files: Mapping[str, Sequence[Path]], config: DataConfig, seed: int, device: torch.device,
        progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
    ) -> None:  # fmt: skip
        """Decode all images to the device; UserError where they do not fit, or need more than a crop."""
        if config.rotate or config.color_jitter:
            raise UserError(
                "data.device_cache only crops and mirrors; set data.rotate=0 and data.color_jitter=0",
                option="data.device_cache",
            )
        store = open_image_store(files, replace(config, memory_cache_gb=0), progress)
        super().__init__(files, config, seed, store)
        self.device = device
        self.images: dict[str, list[Tensor]] = {}
        self._places: dict[tuple[int, int], np.ndarray] = {}
        try:
            for domain, paths in self.files.items():
                indices = zip(range(len(paths)), progress(paths), strict=False)
                self.images[domain] = [
                    to_tensor(store.pixels(domain, index)).to(device) for index, _ in indices
                ]
        except (torch.OutOfMemoryError, MemoryError):
            raise UserError(
                f"data.device_cache: the images do not fit the memory of {device}; "
                "use data.disk_cache=FOLDER",
                option="data.device_cache",
            ) from None

    def batches(
        self, batch_size: int, first_step: int, last_step: int, workers: int, pin_memory: bool,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[dict[str, Tensor]]:  # fmt: skip
        """Yield the batches of `UnpairedSamples`, on the device; `workers` and `pin_memory` have no effect."""
        for step in range(first_step, last_step):
            seen = positions(batch_size, step, part)
            yield {
                domain: torch.stack([self._view(domain, position) for position in seen])
                for domain in self.images
            }

    def _view(self, domain: str, position: int) -> Tensor:
        """Return the sample of a domain at a position, uint8 [C, crop, crop]."""
        image = self.images[domain][self.index_of(domain, position)]
        _, height, width = image.shape
        corners = self.augment(self._places_of(height, width), domain, position)[0, [0, -1]]
        (top, left), (_, right) = corners.astype(int) @ [[256, 0], [1, 0], [0, 256], [0, 1]]
        size = self.crop_at(position)
        crop = image[:, top : top + size, min(left, right) : min(left, right) + size]
        return crop.flip(2) if right < left else crop

    def _places_of(self, height: int, width: int) -> np.ndarray:
        """Return an image whose pixels say where they are: row and column, two bytes each."""
        if (height, width) not in self._places:
            rows, columns = np.indices((height, width))
            places = np.stack([rows >> 8, rows & 255, columns >> 8, columns & 255], axis=2)
            self._places[height, width] = places.astype(np.uint8)
        return self._places[height, width]
