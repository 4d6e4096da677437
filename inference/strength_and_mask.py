"""Blend a translation with its input: by strength, by luminance alone, or by a mask."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from common.errors import UserError


@dataclass(frozen=True)
class Blending:
    """How to blend a translation with its input; the defaults leave the translation unchanged."""

    strength: float = 1.0  # 0 is the input, 1 the translation; more exaggerates
    keep_color: bool = False  # take only the luminance from the translation
    mask: Image.Image | None = None  # white where the translation shows, black where the input does

    def apply(self, real: np.ndarray, fake: np.ndarray) -> np.ndarray:
        """Return the blend of pixels [H, W, C], uint8 or floats in [0, 1].

        UserError if they differ in channels or type.
        """
        if self.strength == 1.0 and not self.keep_color and self.mask is None:
            return fake
        if real.dtype != fake.dtype or (self.keep_color and fake.dtype != np.uint8):
            raise UserError(
                "strength, keep_color and mask need 8-bit pictures on both sides, or (but for "
                "keep_color) ranges on both sides; leave them out",
                option="strength",
            )
        if real.shape != fake.shape:
            mask_or_color = "mask" if self.mask is not None else "keep_color"
            option = "strength" if self.strength != 1.0 else mask_or_color
            raise UserError(
                f"{option} needs equal numbers of input and output channels; this run has "
                f"{real.shape[2]} and {fake.shape[2]}, so leave it out",
                option=option,
            )
        if self.keep_color:
            fake = with_color_of(real, fake)
        weight: np.ndarray | float = self.strength
        if self.mask is not None:
            size = (real.shape[1], real.shape[0])
            mask = self.mask.convert("L").resize(size, Image.Resampling.BILINEAR)
            weight = weight * np.asarray(mask, np.float32)[..., None] / 255
        blended = real + weight * (fake.astype(np.float32) - real)
        if fake.dtype != np.uint8:
            return blended.clip(0, 1).astype(np.float32)
        return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def with_color_of(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """Return uint8 RGB with the luminance of `fake` and the colors of `real` (YCbCr of BT.601).

    A `fake` without three channels is returned unchanged.
    """
    if fake.shape[2] != 3:
        return fake
    luminance = Image.fromarray(fake).convert("YCbCr").getchannel(0)
    _, blue, red = Image.fromarray(real).convert("YCbCr").split()
    return np.array(Image.merge("YCbCr", (luminance, blue, red)).convert("RGB"))
