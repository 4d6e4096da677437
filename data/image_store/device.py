"""Keep all training images in device memory, and crop and flip them there."""

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
    """The samples of `UnpairedSamples`, equal in every pixel, without workers or transfers.

    For data sets that fit in device memory: 1,000 images of 286 pixels take 0.25 GB. Crops and
    flips are those that albumentations draws for the key of a sample. Rotation and color jitter are
    not supported, because they compute new pixel values.
    """

    def __init__(
        self, files: Mapping[str, Sequence[Path]], config: DataConfig, seed: int,
        device: torch.device,
        progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
    ) -> None:  # fmt: skip
        """Decode all images to the device.

        UserError if they do not fit in its memory, or data.rotate or data.color_jitter is set.
        """
        if config.rotate or config.color_jitter:
            raise UserError(
                "data.device_cache supports only crops and flips; "
                "set data.rotate=0 and data.color_jitter=0",
                option="data.device_cache",
            )
        store = open_image_store(files, replace(config, memory_cache_gb=0), progress)
        super().__init__(files, config, seed, store)
        self.device = device
        self.images: dict[str, list[Tensor]] = {}
        self._coordinate_images: dict[tuple[int, int], np.ndarray] = {}  # by (height, width)
        try:
            for domain, paths in self.files.items():
                indices = zip(range(len(paths)), progress(paths), strict=False)
                self.images[domain] = [
                    to_tensor(store.pixels(domain, index)).to(device) for index, _ in indices
                ]
        except (torch.OutOfMemoryError, MemoryError):
            raise UserError(
                f"data.device_cache: the images do not fit in the memory of {device}; "
                "use data.disk_cache=FOLDER",
                option="data.device_cache",
            ) from None

    def batches(
        self, batch_size: int, first_step: int, last_step: int, workers: int, pin_memory: bool,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[dict[str, Tensor]]:  # fmt: skip
        """Yield the batches of `UnpairedSamples` on the device.

        `workers` and `pin_memory` have no effect.
        """
        for step in range(first_step, last_step):
            batch = positions(batch_size, step, part)
            yield {
                domain: torch.stack([self._sample(domain, position) for position in batch])
                for domain in self.images
            }

    def _sample(self, domain: str, position: int) -> Tensor:
        """Return the sample of a domain at a position, uint8 [C, crop, crop].

        albumentations crops and flips an image whose pixels are their own coordinates; the upper
        corners of the result are then the place and the direction of the crop.
        """
        image = self.images[domain][self.index_of(domain, position)]
        _, height, width = image.shape
        coordinates = self._coordinates(height, width)
        corners = self.augment(coordinates, domain, position)[0, [0, -1]]
        (top, left), (_, right) = corners.astype(int) @ [[256, 0], [1, 0], [0, 256], [0, 1]]
        size = self.crop_at(position)
        crop = image[:, top : top + size, min(left, right) : min(left, right) + size]
        return crop.flip(2) if right < left else crop

    def _coordinates(self, height: int, width: int) -> np.ndarray:
        """Return an image whose pixels are their own row and column, in two bytes each."""
        if (height, width) not in self._coordinate_images:
            rows, columns = np.indices((height, width))
            coordinates = np.stack([rows >> 8, rows & 255, columns >> 8, columns & 255], axis=2)
            self._coordinate_images[height, width] = coordinates.astype(np.uint8)
        return self._coordinate_images[height, width]
