"""Sample n of a run, and the stream of batches that training reads."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from common.errors import UserError
from data.augment import evaluation_transform, training_transform
from data.config import DataConfig
from data.image_store.files import too_small
from data.image_store.open_store import ImageStore, open_image_store
from data.loader import batches
from data.reading import BadImage, image_size, read_image
from data.tensors import normalize, to_tensor

ORDER, AUGMENTATION = 0, 1  # what a random key is for


class UnpairedSamples(Dataset):
    """Training samples by their position: how many samples the run has seen before this one.

    Sample n of a domain is a function of (seed, domain, n) alone. Every domain runs through its own
    endless sequence of shuffles, so that each of its images comes once a pass, against ever new
    images of the other domain, whatever their numbers.
    """

    def __init__(
        self, files: Mapping[str, Sequence[Path]], config: DataConfig, seed: int,
        store: ImageStore | None = None,
    ) -> None:  # fmt: skip
        """Take domain -> files, and the store of their pixels (default: the one that `config` chooses)."""
        self.files = {domain: list(paths) for domain, paths in files.items()}
        self.seed = seed
        self.channels = config.channels_of()
        self.config = config
        self.store = store or open_image_store(files, config)
        self.transforms = {
            (domain, crop): training_transform(config, channels, crop)
            for domain, channels in self.channels.items() for crop in config.crops()
        }  # fmt: skip
        self.stages = [(0, config.crop_size)]  # position from which samples have this crop
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def reseed(self, seed: int) -> None:
        """Go on with other samples, from the next batches on."""
        self.seed = seed
        self._orders.clear()

    def set_crop_schedule(self, steps: int, batch_size: int) -> None:
        """Let crops have the sides of data.progressive_crops, each for an equal share of the run's steps."""
        crops = self.config.crops()
        self.stages = [
            (steps * number // len(crops) * batch_size, crop) for number, crop in enumerate(crops)
        ]

    def crop_at(self, position: int) -> int:
        """Return the side of the sample at `position`; one batch has one side."""
        return next(crop for first, crop in reversed(self.stages) if first <= position)

    def __len__(self) -> int:
        """Return the length of an epoch: one pass through the largest domain."""
        return max(len(files) for files in self.files.values())

    def file_of(self, domain: str, position: int) -> Path:
        """Return the file that `domain` shows at `position`."""
        return self.files[domain][self.index_of(domain, position)]

    def index_of(self, domain: str, position: int) -> int:
        """Return the number of that file among the domain's."""
        count, number = len(self.files[domain]), list(self.files).index(domain)
        turn, index = divmod(position, count)
        if self._orders.get(number, (None,))[0] != turn:
            key = np.random.SeedSequence((self.seed, number, turn, ORDER))
            order = np.random.Generator(np.random.PCG64(key)).permutation(count)
            self._orders[number] = (turn, order)
        return int(self._orders[number][1][index])

    def batches(
        self, batch_size: int, first_step: int, last_step: int, workers: int, pin_memory: bool,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[dict[str, Tensor]]:  # fmt: skip
        """Yield the uint8 batches of steps first_step .. last_step - 1 (see `batches`)."""
        return batches(self, batch_size, first_step, last_step, workers, pin_memory, part)

    def __getitem__(self, position: int) -> dict[str, Tensor] | BadImage:
        """Return domain -> uint8 [C, crop, crop]; a bad file is returned, for the reader to raise."""
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
        """Return what training sees of an image at `position`."""
        number = list(self.files).index(domain)
        transform = self.transforms[domain, self.crop_at(position)]
        return transform(pixels, (self.seed, number, position, AUGMENTATION))


def load_held_out(
    files: Sequence[Path], config: DataConfig, channels: int, cropped: bool = False
) -> Iterator[Tensor]:
    """Yield each file as a float image [1, C, H, W] in [-1, 1], fitted as in evaluation.

    `cropped` takes the square of data.crop_size in its middle, as big as what is trained on.
    """
    transform = evaluation_transform(config)
    for file in files:
        image = normalize(to_tensor(transform(read_image(file, channels))))[None]
        if cropped:
            top, left = ((side - config.crop_size) // 2 for side in image.shape[-2:])
            image = image[..., top : top + config.crop_size, left : left + config.crop_size]
        yield image


def check_sizes(files: Mapping[str, Sequence[Path]], config: DataConfig) -> None:
    """With fit=crop, raise UserError for the first image that is smaller than the crop."""
    if config.fit != "crop":
        return
    for paths in files.values():
        for path in paths:
            height, width = image_size(path)
            if min(height, width) < config.crop_size:
                raise UserError(too_small(path, height, width, config.crop_size))
