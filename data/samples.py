"""Give every position of a training run its unpaired, augmented sample, a function of the seed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from common.errors import UserError
from data.augment import Transform, evaluation_transform, training_transform
from data.config import DataConfig
from data.image_store.files import too_small
from data.image_store.open_store import ImageStore, open_image_store
from data.loader import batches
from data.reading import BadImage, image_size, read_pixels
from data.tensors import normalize, to_tensor
from data.values.value_range import DomainFormat

ORDER, AUGMENTATION = 0, 1  # last element of a random key: the purpose of the random numbers


class UnpairedSamples(Dataset):
    """Training samples by position, the number of samples that the run has seen before.

    Sample n of a domain is a function of (seed, domain, n) alone. Every domain is shuffled anew for
    every pass through its own images. Each image therefore occurs once per pass, with other
    partners from the other domain each time, even if the domains differ in size.
    """

    def __init__(
        self, files: Mapping[str, Sequence[Path]], config: DataConfig, seed: int,
        store: ImageStore | None = None,
    ) -> None:  # fmt: skip
        """Take domain -> files and the store that decodes them (default: as `config` selects)."""
        self.files = {domain: list(paths) for domain, paths in files.items()}
        self.seed = seed
        self.channels = config.channels_of()
        self.config = config
        self.store = store or open_image_store(files, config)
        self.transforms = {
            (domain, crop): training_transform(config, channels, crop)
            for domain, channels in self.channels.items() for crop in config.crops()
        }  # fmt: skip
        self.stages = [(0, config.crop_size)]  # (first position, crop size from there on)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}  # domain -> (pass, its shuffled order)

    def reseed(self, seed: int) -> None:
        """Continue with other samples; has effect on batches that are requested from now on."""
        self.seed = seed
        self._orders.clear()

    def set_crop_schedule(self, steps: int, batch_size: int) -> None:
        """Schedule data.progressive_crops: each crop size for an equal part of the `steps`."""
        crops = self.config.crops()
        self.stages = [
            (steps * number // len(crops) * batch_size, crop) for number, crop in enumerate(crops)
        ]

    def crop_at(self, position: int) -> int:
        """Return the crop size at `position`; all samples of a batch have the same size."""
        return next(crop for first, crop in reversed(self.stages) if first <= position)

    def __len__(self) -> int:
        """Return the length of an epoch: one pass through the largest domain."""
        return max(len(files) for files in self.files.values())

    def file_of(self, domain: str, position: int) -> Path:
        """Return the file of `domain` at `position`."""
        return self.files[domain][self.index_of(domain, position)]

    def index_of(self, domain: str, position: int) -> int:
        """Return the index of the file of `domain` at `position`."""
        count, number = len(self.files[domain]), list(self.files).index(domain)
        epoch, index = divmod(position, count)
        if self._orders.get(number, (None,))[0] != epoch:
            key = np.random.SeedSequence((self.seed, number, epoch, ORDER))
            order = np.random.Generator(np.random.PCG64(key)).permutation(count)
            self._orders[number] = (epoch, order)
        return int(self._orders[number][1][index])

    def batches(
        self, batch_size: int, first_step: int, last_step: int, workers: int, pin_memory: bool,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[dict[str, Tensor]]:  # fmt: skip
        """Yield the batches of steps first_step .. last_step - 1 (see `loader.batches`)."""
        return batches(self, batch_size, first_step, last_step, workers, pin_memory, part)

    def __getitem__(self, position: int) -> dict[str, Tensor] | BadImage:
        """Return domain -> pixels [C, crop, crop], or the BadImage for the main process to raise."""
        try:
            return {
                domain: to_tensor(
                    self.augment(
                        self.store.pixels(domain, self.index_of(domain, position)), domain, position
                    )
                )
                for domain in self.channels
            }
        except BadImage as bad:
            return bad

    def augment(self, pixels: np.ndarray, domain: str, position: int) -> np.ndarray:
        """Return the augmented crop of an image at `position`."""
        number = list(self.files).index(domain)
        transform = self.transforms[domain, self.crop_at(position)]
        return transform(pixels, (self.seed, number, position, AUGMENTATION))


def load_held_out(
    files: Sequence[Path], config: DataConfig, form: DomainFormat, cropped: bool = False
) -> Iterator[Tensor]:
    """Yield each file as a float image [1, C, H, W] in [-1, 1], resized as in evaluation.

    `cropped` returns the central square of data.crop_size, the size of a training crop.
    """
    transform = evaluation_transform(config)
    for file in files:
        yield load_image(file, transform, config, form, cropped)


def load_image(
    file: Path, transform: Transform, config: DataConfig, form: DomainFormat, cropped: bool = False
) -> Tensor:
    """Return a file as a float image [1, C, H, W] in [-1, 1], resized by `transform`.

    BadImage or OSError if it cannot be read.
    """
    image = normalize(to_tensor(transform(read_pixels(file, form))))[None]
    if cropped:
        top, left = ((side - config.crop_size) // 2 for side in image.shape[-2:])
        image = image[..., top : top + config.crop_size, left : left + config.crop_size]
    return image


def check_sizes(files: Mapping[str, Sequence[Path]], config: DataConfig) -> None:
    """Raise UserError for the first image that is smaller than the crop, if data.fit is crop."""
    if config.fit != "crop":
        return
    for paths in files.values():
        for path in paths:
            height, width = image_size(path)
            if min(height, width) < config.crop_size:
                raise UserError(
                    too_small(path, height, width, config.crop_size),
                    option="data.crop_size", path=path,
                )  # fmt: skip
