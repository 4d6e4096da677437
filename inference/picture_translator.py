"""Translate pictures of any kind and size with a trained translator."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.errors import UserError
from data.reading import pixels_of, to_upright_srgb
from data.tensors import normalize, to_pixels, to_tensor
from data.values.value_range import DomainFormat
from engine.runtime import Runtime, RuntimeConfig
from inference.open_run import open_run
from inference.strength_and_mask import Blending
from inference.tiling.strips import strips_for, translate_in_strips
from models.translator import Translator
from options.config import CheckpointChoice


class PictureTranslator:
    """Apply a translator to pictures of any kind and size.

    Call it with a PIL image, a uint8 array [H, W] or [H, W, C], or a float tensor [C, H, W] or [B,
    C, H, W] in [-1, 1]; the result has the same type and size. A PIL image keeps its transparency.

    Where the source domain has a range (data.range), arrays are in its units: CT numbers, heights.
    Masked pixels are filled with the low end, and put back into the result. Where the target domain
    has a range, the result is an array in its units.

    A picture that does not fit into memory is translated in strips (inference/tiling/strips.py),
    with the same result. `tile` is "auto" (strips if the free memory is too small), "off" (never),
    or N (always, in strips of about N x N pixels). `report` is called with the finished fraction of
    a picture in strips, 0 to 1. `style` is the style that a styled translator renders all pictures
    in.
    """

    def __init__(
        self, translator: Translator, runtime: Runtime, tile: str = "auto",
        blending: Blending | None = None, report: Callable[[float], None] = lambda _: None,
        style: Tensor | None = None, formats: Mapping[str, DomainFormat] | None = None,
    ) -> None:  # fmt: skip
        self.translator = translator
        formats = formats or {}
        self.source = formats.get(translator.source, DomainFormat(translator.in_channels))
        self.target = formats.get(translator.target, DomainFormat(translator.out_channels))
        self.style = style
        self.runtime = runtime
        self.tile = tile
        self.blending = blending or Blending()
        self.report = report

    @overload
    def __call__(self, picture: Image.Image) -> Image.Image | np.ndarray: ...
    @overload
    def __call__(self, picture: np.ndarray) -> np.ndarray: ...
    @overload
    def __call__(self, picture: Tensor) -> Tensor: ...
    def __call__(
        self, picture: Image.Image | np.ndarray | Tensor
    ) -> Image.Image | np.ndarray | Tensor:
        if isinstance(picture, Tensor):
            batch = picture if picture.ndim == 4 else picture[None]
            translated = self.tensor(batch).to(picture.device)
            return translated if picture.ndim == 4 else translated[0]
        if isinstance(picture, np.ndarray):
            translated = self.pixels(picture if picture.ndim == 3 else picture[..., None])
            return (
                translated if picture.ndim == 3 or translated.shape[2] > 1 else translated[..., 0]
            )
        return self.image(picture)

    @torch.no_grad()
    def tensor(self, batch: Tensor) -> Tensor:
        """Translate [B, C, H, W] in [-1, 1]."""
        with self.runtime.autocast():
            return self.translator(self.runtime.to_device(batch), self.style).float()

    def pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Translate uint8 [H, W, C], or an array in the units of a source domain with a range."""
        marks = None
        if self.source.has_range:
            marks = invalid_pixels(pixels)
            filled = np.ma.filled(pixels.astype(np.float64), np.nan)
            pixels = self.source.to_unit(filled)
        result = self._results([pixels])[0]
        if marks is not None and self.target.has_range:
            result = self.target.with_marks(result, marks)
        return result

    def _results(self, pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Translate pixels; return uint8, or values in the units of the target domain."""
        fakes = self._batch(pixels)
        return [self.target.to_values(fake) for fake in fakes] if self.target.has_range else fakes

    def image(self, image: Image.Image) -> Image.Image | np.ndarray:
        """Translate a picture; its alpha channel, if any, is added to the result.

        The EXIF orientation of a picture is applied, and its colors are converted to sRGB, first.
        """
        return self.images([image])[0]

    def images(self, images: Sequence[Image.Image]) -> list[Image.Image | np.ndarray]:
        """Translate pictures of one size in one batch."""
        if self.source.has_range:
            raise UserError(
                f"a picture of 8 bits cannot be translated: {self.translator.source} has "
                f"{self.source.dtype} values of {self.source.low:g} to {self.source.high:g}"
            )
        images = [to_upright_srgb(image) for image in images]
        pixels = [pixels_of(image, self.translator.in_channels) for image in images]
        results = [
            fake if self.target.has_range else to_image(fake) for fake in self._results(pixels)
        ]
        for image, result in zip(images, results, strict=True):
            if isinstance(result, np.ndarray):
                continue
            if image.mode in ("LA", "RGBA") and result.mode in ("L", "RGB"):
                result.putalpha(image.getchannel("A"))
        return results

    def _batch(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Translate pixels [H, W, C] of one size: uint8, or float32 in [0, 1]."""
        pixels, channels, device = pictures[0], self.translator.in_channels, self.runtime.device
        expected = np.float32 if self.source.has_range else np.uint8
        if pixels.dtype != expected or pixels.shape[2] != channels:
            raise ValueError(
                f"expected {np.dtype(expected)} [H, W, {channels}], got {pixels.dtype} "
                f"{pixels.shape}"
            )
        size = strips_for(self.translator, self.tile, pixels, device)
        if size:
            with self.runtime.autocast():
                fakes = [
                    translate_in_strips(
                        self.translator, picture, size, device, self.report, self.target.has_range
                    )
                    for picture in pictures
                ]
        else:
            batch = normalize(torch.stack([to_tensor(picture) for picture in pictures]))
            fakes = to_pixels(self.tensor(batch), self.target.has_range)
            fakes = fakes.permute(0, 2, 3, 1).cpu().numpy()
        return [self.blending.apply(real, fake) for real, fake in zip(pictures, fakes, strict=True)]


def invalid_pixels(values: np.ndarray) -> np.ma.MaskedArray:
    """Return [H, W, 1]: the first invalid value of each pixel, masked where all are valid."""
    mask = np.ma.getmaskarray(values)
    first = mask.argmax(axis=2)[..., None]
    chosen = np.take_along_axis(np.ma.getdata(values), first, axis=2)
    return np.ma.masked_array(chosen, mask=~mask.any(axis=2, keepdims=True))


def to_image(pixels: np.ndarray) -> Image.Image:
    """Return uint8 [H, W, C] as a picture; UserError for more than 4 channels."""
    if pixels.shape[2] > 4:
        raise UserError(
            f"an image file has at most 4 channels, not {pixels.shape[2]}; write .npy files instead"
        )
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def load_translator(
    run: str | Path, device: str = "auto", checkpoint: CheckpointChoice = "latest"
) -> dict[str, PictureTranslator]:
    """Return direction -> translator of a trained run, for Python; UserError as in `open_run`."""
    opened = open_run(run, RuntimeConfig(device=device), checkpoint)
    formats = opened.options.data.formats()
    return {
        name: PictureTranslator(translator, opened.runtime, formats=formats)
        for name, translator in opened.translators.items()
    }
