"""What a person may turn at a translation: its strength, its colours, its place."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from common.errors import UserError


@dataclass(frozen=True)
class Blending:
    """How a translation is laid over its input; the defaults leave it as it is."""

    strength: float = 1.0  # 0 is the input, 1 the translation; more exaggerates
    keep_color: bool = False  # take only the luminance from the translation
    mask: Image.Image | None = None  # white where the translation shows, black where the input does

    def apply(self, real: np.ndarray, fake: np.ndarray) -> np.ndarray:
        """Return the blend of uint8 pictures [H, W, C]; UserError where they differ in channels."""
        if self.strength == 1.0 and not self.keep_color and self.mask is None:
            return fake
        if real.shape != fake.shape:
            raise UserError(
                f"strength, keep_colour and mask need as many channels out as in; this run has "
                f"{real.shape[2]} and {fake.shape[2]}"
            )
        if self.keep_color:
            fake = luminance_of(fake, real)
        share: np.ndarray | float = self.strength
        if self.mask is not None:
            size = (real.shape[1], real.shape[0])
            mask = self.mask.convert("L").resize(size, Image.Resampling.BILINEAR)
            share = share * np.asarray(mask, np.float32)[..., None] / 255
        blended = real + share * (fake.astype(np.float32) - real)
        return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def luminance_of(fake: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return a uint8 RGB picture with the luminance of `fake` and the colours of `real` (BT.601)."""
    if fake.shape[2] != 3:
        return fake
    light = Image.fromarray(fake).convert("YCbCr").getchannel(0)
    _, blue, red = Image.fromarray(real).convert("YCbCr").split()
    return np.array(Image.merge("YCbCr", (light, blue, red)).convert("RGB"))
