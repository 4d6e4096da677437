"""Resize and augment single images; the only module that imports albumentations."""

import functools
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.config import DataConfig

MAX_OPENCV_CHANNELS = 128  # OpenCV's limit


class Transform:
    """Apply albumentations steps to an image, with all randomness derived from a key.

    Takes [H, W, C], uint8 or float32 in [0, 1], and a key; returns [H', W', C] of the same type.
    Equal keys give equal results. The albumentations objects are created on the first call, so that
    a transform can be pickled to worker processes under any start method.
    """

    def __init__(self, steps: Callable[[], list[Any]]) -> None:
        self.steps = steps
        self._pipeline: Any = None

    def __call__(self, image: np.ndarray, key: Sequence[int] = (0,)) -> np.ndarray:
        # Color and geometry steps silently misinterpret other types and shapes.
        assert image.dtype in (np.uint8, np.float32) and image.ndim == 3, (image.dtype, image.shape)
        if image.shape[2] > MAX_OPENCV_CHANNELS:  # equal keys transform all parts equally
            first, rest = image[..., :MAX_OPENCV_CHANNELS], image[..., MAX_OPENCV_CHANNELS:]
            parts = [self(np.ascontiguousarray(part), key) for part in (first, rest)]
            return np.concatenate(parts, axis=2)
        if self._pipeline is None:
            self._pipeline = _import_libraries()[1].Compose(self.steps(), strict=True)
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(tuple(key))))
        # All steps share one stream: with one seed per step their random numbers would be
        # correlated.
        self._pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        result = self._pipeline(image=image)["image"]
        result = result if result.ndim == 3 else result[..., None]
        # Bicubic interpolation overshoots at edges; of uint8 it is clipped already.
        return result if result.dtype == np.uint8 else result.clip(0, 1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pipeline": None}


def resize_transform(config: DataConfig, size: int) -> Transform:
    """Return the deterministic transform that resizes an image to `size` according to data.fit."""
    return Transform(functools.partial(resizing_steps, config, size))


def training_transform(config: DataConfig, channels: int, crop: int = 0) -> Transform:
    """Return the random transform of a resized training image: rotate, crop, flip, jitter colors.

    `crop` is the side of the square crop in pixels; 0 means data.crop_size.
    """
    side = crop or config.crop_size
    return Transform(functools.partial(training_steps, config, channels, side))


def evaluation_transform(config: DataConfig) -> Transform:
    """Return the transform of a held-out image: resized to data.crop_size, never cropped.

    `stretch` gives a square, `short_side` keeps the aspect ratio, `crop` leaves the image
    unchanged.
    """
    return resize_transform(config, config.crop_size)


def training_steps(config: DataConfig, channels: int, crop: int) -> list[Any]:
    """Return the random albumentations steps for a training image."""
    cv2, library = _import_libraries()
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
        factors = (1 - config.color_jitter, 1 + config.color_jitter)
        saturation = factors if channels == 3 else (1.0, 1.0)
        steps.append(library.ColorJitter(factors, factors, saturation, hue=(0, 0), p=1.0))
    return steps


def resizing_steps(config: DataConfig, size: int) -> list[Any]:
    """Return the albumentations steps that resize an image to `size` according to data.fit."""
    cv2, library = _import_libraries()
    # Bicubic, as in the reference implementation; by area when shrinking, which avoids aliasing.
    interpolation = {"interpolation": cv2.INTER_CUBIC, "area_for_downscale": "image"}
    if config.fit == "stretch":
        return [library.Resize(size, size, **interpolation)]
    if config.fit == "short_side":
        return [library.SmallestMaxSize(max_size=size, **interpolation)]
    return []


def _import_libraries() -> tuple[Any, Any]:
    # The import takes a second, which a mistyped command should not have to wait for. Without the
    # environment variable albumentations asks the network for a newer version of itself.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # a worker is one process on one core
    return cv2, albumentations
