"""Whether a translation keeps what was in the picture, and keeps it where it can be seen."""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from metrics.distortion import psnr
from metrics.luminance_correlation import LEVEL, correlation, luminance, standardise

NOISE = 2 * LEVEL  # deviation of the noise, in [-1, 1]: too little to be seen
QUALITY = 75  # of the JPEG
DISTURBANCES = ("quantised", "jpeg", "noise")


def edge_agreement(image: Tensor, other: Tensor) -> Tensor:
    """Return the correlation of edges [B], -1 to 1, of pairs [B, C, H, W] of at least 3x3 pixels.

    Pearson's correlation over the positions of the luminance's gradient magnitude (Sobel's). 1 when
    edges stand at the same places with the same relative strength, whatever the colours and
    even in the negative; about 0 for unrelated pictures, and 0 where either has no edges or only
    equal ones. Channels may differ.
    """
    return correlation(_gradient(image), _gradient(other))


def structure_agreement(image: Tensor, other: Tensor) -> Tensor:
    """Return how well fine structure agrees [B], 0 to 1, for pairs [B, C, H, W].

    The absolute local correlation of luminance, which is the structure term of Wang et al. 2004 (IEEE
    TIP 13(4), Eq. 10) without its sign, in SSIM's window (Gaussian, 11 pixels, deviation 1.5; smaller
    for smaller images). Local contrast, brightness and inversion do not matter. Positions are
    weighted by the stronger of the two local deviations, relative to its image's, so that texture
    put into an empty sky counts and an empty sky in both does not. About 0.2 for unrelated noise; 0
    where both are flat.
    """
    x, y = standardise(luminance(image)), standardise(luminance(other))
    mean_x, mean_y = _blur(x), _blur(y)
    deviation_x = (_blur(x.square()) - mean_x.square()).clamp(min=0).sqrt()
    deviation_y = (_blur(y.square()) - mean_y.square()).clamp(min=0).sqrt()
    covariance = _blur(x * y) - mean_x * mean_y
    likeness = covariance.abs() / (deviation_x * deviation_y).clamp(min=1e-12)
    weight = torch.maximum(deviation_x, deviation_y)
    total = weight.sum(dim=(1, 2, 3)).clamp(min=1e-12)
    return (likeness * weight).sum(dim=(1, 2, 3)) / total


def steganography_index(
    restore: Callable[[Tensor], Tensor], fake: Tensor, real: Tensor, seed: int = 0
) -> dict[str, float | None]:
    """Return `Steganography`'s figures for one batch of fakes and the images they were made from."""
    collected = Steganography(restore, seed)
    collected.update(fake, real)
    return collected.result()


class Steganography:
    """Collect how much a way back relies on a signal in the fakes that nobody can see.

    CycleGAN, a Master of Steganography (Chu et al. 2017, arXiv:1712.02950): a generator may hide the
    input in its output at a low amplitude, for the other to read. `restore` takes fakes [B, C, H, W]
    in [-1, 1] back to the first domain; what it makes of them is compared with what it makes of the
    same fakes rounded to 8 bits (`quantised`), as JPEG of quality 75 (`jpeg`), and with Gaussian
    noise of two 8-bit levels (`noise`).

    `update` takes fakes and the images they were made from; `result` gives `count`, `psnr` of the
    undisturbed way back and `psnr_...` after each disturbance, in dB with errors pooled over all
    pixels (None without any error), `loss_...`, the dB lost to each (None where either PSNR alone has
    no value), and `index`, the greatest loss (None where any is). A way back that reads what can be
    seen loses little, one that reads a hidden signal many dB. The noise of image n depends
    on the seed and n, not on the batches.
    """

    def __init__(self, restore: Callable[[Tensor], Tensor], seed: int = 0) -> None:
        self.restore = restore
        self.generator = torch.Generator().manual_seed(seed)
        self.count = 0
        self.values = 0
        self.squared: dict[str, float] = dict.fromkeys(("", *DISTURBANCES), 0.0)

    def update(self, fake: Tensor, real: Tensor) -> None:
        """Add a batch; `restore` is called four times, without gradients."""
        noise = torch.stack([torch.randn(x.shape, generator=self.generator) for x in fake])
        disturbed = {
            "": fake,
            "quantised": quantize(fake),
            "jpeg": jpeg(fake, QUALITY),
            "noise": (fake + NOISE * noise.to(fake)).clamp(-1, 1),
        }
        self.count += len(real)
        self.values += real.numel()
        with torch.no_grad():
            for name, images in disturbed.items():
                error = self.restore(images).double() - real.double()
                self.squared[name] += error.square().sum().item()

    def result(self) -> dict[str, float | None]:
        """Return the figures over everything added so far."""
        clean = self.squared[""]
        figures: dict[str, float | None] = {
            "count": self.count,
            "psnr": psnr(clean / self.values),
        }
        losses = {name: _loss(clean, self.squared[name]) for name in DISTURBANCES}
        for name, loss in losses.items():
            figures[f"psnr_{name}"] = psnr(self.squared[name] / self.values)
            figures[f"loss_{name}"] = loss
        known = [loss for loss in losses.values() if loss is not None]
        figures["index"] = max(known) if len(known) == len(losses) else None
        return figures


def quantize(images: Tensor) -> Tensor:
    """Return images in [-1, 1] rounded to the 256 levels of an 8-bit file."""
    return ((images.clamp(-1, 1) + 1) / LEVEL).round() * LEVEL - 1


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Return images [B, C, H, W] in [-1, 1] after a JPEG file; other than RGB, channel by channel."""
    levels = ((images.clamp(-1, 1) + 1) / LEVEL).round().to("cpu", torch.uint8).numpy()
    if images.shape[1] == 3:
        decoded = [_through_jpeg(x.transpose(1, 2, 0), quality).transpose(2, 0, 1) for x in levels]
    else:
        decoded = [np.stack([_through_jpeg(plane, quality) for plane in x]) for x in levels]
    return torch.from_numpy(np.stack(decoded)).to(images) * LEVEL - 1


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        return np.array(decoded)


def _loss(clean: float, disturbed: float) -> float | None:
    """Return how many dB the second squared error is above the first."""
    if clean == disturbed:
        return 0.0
    if min(clean, disturbed) == 0:
        return None
    return 10 * math.log10(disturbed / clean)


def _gradient(images: Tensor) -> Tensor:
    """Return the gradient's magnitude [B, 1, H - 2, W - 2] of the luminance."""
    light = luminance(images)
    across = light.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    return torch.hypot(*(F.conv2d(light, kernel[None, None]) for kernel in (across, across.T)))


def _blur(planes: Tensor) -> Tensor:
    size = min(11, *planes.shape[-2:])
    offsets = torch.arange(size, dtype=torch.float64, device=planes.device) - (size - 1) / 2
    line = torch.exp(-offsets.square() / (2 * 1.5**2))
    line = (line / line.sum())[None, None]
    return F.conv2d(F.conv2d(planes, line[..., None]), line[:, :, None])
