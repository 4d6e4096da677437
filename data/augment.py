"""Augmentation of one image; the only place that knows albumentations."""

import functools
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.config import DataConfig

MAX_OPENCV_CHANNELS = 128  # OpenCV's limit


class Transform:
    """A pipeline: uint8 [H, W, C] and a key in, uint8 [H', W', C] out; the same key, the same result.

    The library's objects are made where they are first used: a transform travels to the processes
    that read images, however those are started.
    """

    def __init__(self, steps: Callable[[], list[Any]]) -> None:
        self.steps = steps
        self._pipeline: Any = None

    def __call__(self, image: np.ndarray, key: Sequence[int] = (0,)) -> np.ndarray:
        # The colour and geometry steps silently misread anything but uint8 [H, W, C].
        assert image.dtype == np.uint8 and image.ndim == 3, (image.dtype, image.shape)
        if image.shape[2] > MAX_OPENCV_CHANNELS:  # the same key does the same to every part
            first, rest = image[..., :MAX_OPENCV_CHANNELS], image[..., MAX_OPENCV_CHANNELS:]
            parts = [self(np.ascontiguousarray(part), key) for part in (first, rest)]
            return np.concatenate(parts, axis=2)
        if self._pipeline is None:
            self._pipeline = _libraries()[1].Compose(self.steps(), strict=True)
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(tuple(key))))
        # One stream shared by all steps: a seed per step would make them move in lockstep.
        self._pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        result = self._pipeline(image=image)["image"]
        return result if result.ndim == 3 else result[..., None]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pipeline": None}


def resize_transform(config: DataConfig, size: int) -> Transform:
    """Return what brings an image to `size` as data.fit says; nothing in it is random."""
    return Transform(functools.partial(resizing_steps, config, size))


def training_transform(config: DataConfig, channels: int, crop: int = 0) -> Transform:
    """Return what a resized training image goes through: turn, a crop of this side, flip, colour.

    Without a side the crop is one of data.crop_size.
    """
    side = crop or config.crop_size
    return Transform(functools.partial(training_steps, config, channels, side))


def evaluation_transform(config: DataConfig) -> Transform:
    """Return what a held-out image goes through: resized to the crop size, never cropped.

    `stretch` gives a square, `short_side` keeps the aspect, `crop` leaves the image as it is.
    """
    return resize_transform(config, config.crop_size)


def training_steps(config: DataConfig, channels: int, crop: int) -> list[Any]:
    """Return the library's random steps for a training image."""
    cv2, library = _libraries()
    steps: list[Any] = []
    if config.rotate:
        steps.append(library.Rotate(
            limit=(-config.rotate, config.rotate), border_mode=cv2.BORDER_REFLECT_101,
            interpolation=cv2.INTER_CUBIC, p=1.0,
        ))  # fmt: skip
    steps.append(library.RandomCrop(crop, crop))
    if config.flip:
        steps.append(library.HorizontalFlip(p=0.5))
    if config.color_jitter:
        share = (1 - config.color_jitter, 1 + config.color_jitter)
        saturation = share if channels == 3 else (1.0, 1.0)
        steps.append(library.ColorJitter(share, share, saturation, hue=(0, 0), p=1.0))
    return steps


def resizing_steps(config: DataConfig, size: int) -> list[Any]:
    """Return the library's steps that bring an image to `size` as data.fit says."""
    cv2, library = _libraries()
    # Bicubic as the reference; by area where it shrinks, which is free of aliasing.
    how = {"interpolation": cv2.INTER_CUBIC, "area_for_downscale": "image"}
    if config.fit == "stretch":
        return [library.Resize(size, size, **how)]
    if config.fit == "short_side":
        return [library.SmallestMaxSize(max_size=size, **how)]
    return []


def _libraries() -> tuple[Any, Any]:
    # Imported here: it costs a second that a misspelt command should not wait for. Without the
    # variable the library asks the network for a newer version of itself.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # a worker is one process on one core
    return cv2, albumentations
