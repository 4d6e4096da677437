"""Measure whether a translation preserves its input visibly: edges, structure, steganography."""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from metrics.distortion import psnr
from metrics.luminance_correlation import LEVEL, correlation, luminance, standardize

NOISE_STD = 2 * LEVEL  # of the noise, for images in [-1, 1]: too weak to be visible
JPEG_QUALITY = 75
EDGE_CELLS, EDGE_PIXELS = 32, 4  # cells of a grid along a side, and pixels of a cell
ROUNDING = 1e-5  # of a gradient, in float32: a flat image has no edges
BLOCK = 1024  # fakes that are compared with all sources at once
DISTURBANCES = ("quantised", "jpeg", "noise")


def edge_agreement(image: Tensor, other: Tensor) -> Tensor:
    """Return the correlation of edges [B], -1 to 1, of pairs [B, C, H, W] of at least 3x3 pixels.

    Pearson's correlation over all positions of the luminance's gradient magnitude (Sobel). 1 if
    edges are at the same positions with the same relative strength, whatever their colors and even
    if the image is inverted. About 0 for unrelated images, and 0 if either has no edges or the same
    gradient magnitude everywhere. The numbers of channels may differ.
    """
    return correlation(_gradient(image), _gradient(other))


def structure_agreement(image: Tensor, other: Tensor) -> Tensor:
    """Return the agreement of fine structure [B], 0 to 1, of pairs [B, C, H, W].

    It is the absolute local correlation of luminance: the structure term of Wang et al. 2004 (IEEE
    TIP 13(4), Eq. 10) without its sign, in SSIM's window (Gaussian, 11 pixels, deviation 1.5;
    smaller for smaller images). Local contrast, brightness and inversion have no effect. Positions
    are weighted by the greater of the two local deviations, relative to its image's, so that
    texture added to an empty sky counts, while a sky that is empty in both does not. About 0.2 for
    unrelated noise; 0 if both are flat.
    """
    x, y = standardize(luminance(image)), standardize(luminance(other))
    mean_x, mean_y = _blur(x), _blur(y)
    std_x = (_blur(x.square()) - mean_x.square()).clamp(min=0).sqrt()
    std_y = (_blur(y.square()) - mean_y.square()).clamp(min=0).sqrt()
    covariance = _blur(x * y) - mean_x * mean_y
    structure = covariance.abs() / (std_x * std_y).clamp(min=1e-12)
    weight = torch.maximum(std_x, std_y)
    total = weight.sum(dim=(1, 2, 3)).clamp(min=1e-12)
    return (structure * weight).sum(dim=(1, 2, 3)) / total


def edge_grid(images: Tensor) -> Tensor:
    """Return where the edges of images [B, C, H, W] are: unit vectors [B, 1024] of mean 0.

    The square root of the luminance's gradient magnitude (central differences), averaged over the
    cells of a 32x32 grid. A flat image has a vector of zeros.
    """
    side = EDGE_CELLS * EDGE_PIXELS + 2
    light = F.interpolate(
        luminance(images).float(), (side, side), mode="bicubic", antialias=True, align_corners=False
    )
    across = light[:, :, 1:-1, 2:] - light[:, :, 1:-1, :-2]
    down = light[:, :, 2:, 1:-1] - light[:, :, :-2, 1:-1]
    size = torch.hypot(across, down)
    size = torch.where(size > ROUNDING, size, 0.0)
    cells = F.avg_pool2d(size.sqrt(), EDGE_PIXELS).flatten(1)
    centered = cells - cells.mean(dim=1, keepdim=True)
    return F.normalize(centered, dim=1, eps=1e-6)


def own_source_found(fakes: Tensor, sources: Tensor) -> float:
    """Return the share of fakes whose most similar source is their own, 1/N by chance.

    Row i of the `edge_grid` of the fakes [N, 1024] belongs to row i of the sources. Copies have 1.
    A generator that paints the target class and forgets the picture is close to the target domain
    by every distance of sets, and has a low share here.
    """
    found = 0
    for start in range(0, len(fakes), BLOCK):
        similar = fakes[start : start + BLOCK] @ sources.T
        own = torch.arange(start, start + len(similar))
        found += int((similar.argmax(dim=1) == own).sum())
    return found / len(fakes)


def steganography_index(
    restore: Callable[[Tensor], Tensor], fake: Tensor, real: Tensor, seed: int = 0
) -> dict[str, float | None]:
    """Return the metrics of `Steganography` for one batch of fakes and their source images."""
    metric = Steganography(restore, seed)
    metric.update(fake, real)
    return metric.result()


class Steganography:
    """Measure how much the inverse translator relies on an invisible signal in the fakes.

    CycleGAN, a Master of Steganography (Chu et al. 2017, arXiv:1712.02950): a generator may hide
    the input in its output at a low amplitude, where the inverse generator reads it. `restore` is
    the inverse translator: it maps fakes [B, C, H, W] in [-1, 1] back to the source domain. Its
    error on the fakes is compared with its error on the same fakes after each of three
    disturbances: rounding to 8 bits (`quantised`), JPEG of quality 75 (`jpeg`), and Gaussian noise
    of two 8-bit levels (`noise`).

    `update` takes fakes and their source images. `result` returns `count`; `psnr` of the restored
    images without a disturbance and `psnr_...` after each, in dB with errors pooled over all pixels
    (None for an error of 0); `loss_...`, the dB lost to each disturbance (None if only one of the
    two PSNRs is None); and `index`, the greatest loss (None if any loss is None). An inverse
    translator that reads visible content loses little, one that reads a hidden signal many dB. The
    noise of image n depends on the seed and n, not on the batches.
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
            "jpeg": jpeg(fake, JPEG_QUALITY),
            "noise": (fake + NOISE_STD * noise.to(fake)).clamp(-1, 1),
        }
        self.count += len(real)
        self.values += real.numel()
        with torch.no_grad():
            for name, images in disturbed.items():
                error = self.restore(images).double() - real.double()
                self.squared[name] += error.square().sum().item()

    def result(self) -> dict[str, float | None]:
        """Return the metrics over all images added so far."""
        clean = self.squared[""]
        metrics: dict[str, float | None] = {
            "count": self.count,
            "psnr": psnr(clean / self.values),
        }
        losses = {name: _loss(clean, self.squared[name]) for name in DISTURBANCES}
        for name, loss in losses.items():
            metrics[f"psnr_{name}"] = psnr(self.squared[name] / self.values)
            metrics[f"loss_{name}"] = loss
        finite = [loss for loss in losses.values() if loss is not None]
        metrics["index"] = max(finite) if len(finite) == len(losses) else None
        return metrics


def quantize(images: Tensor) -> Tensor:
    """Return images in [-1, 1] rounded to the 256 levels of an 8-bit file."""
    return ((images.clamp(-1, 1) + 1) / LEVEL).round() * LEVEL - 1


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Return images [B, C, H, W] in [-1, 1] after JPEG compression; unless RGB, per channel."""
    levels = ((images.clamp(-1, 1) + 1) / LEVEL).round().to("cpu", torch.uint8).numpy()
    if images.shape[1] == 3:
        decoded = [_jpeg_pixels(x.transpose(1, 2, 0), quality).transpose(2, 0, 1) for x in levels]
    else:
        decoded = [np.stack([_jpeg_pixels(plane, quality) for plane in x]) for x in levels]
    return torch.from_numpy(np.stack(decoded)).to(images) * LEVEL - 1


def _jpeg_pixels(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        return np.array(decoded)


def _loss(clean: float, disturbed: float) -> float | None:
    """Return the loss in dB from the first squared error to the second; None if only one is 0."""
    if clean == disturbed:
        return 0.0
    if min(clean, disturbed) == 0:
        return None
    return 10 * math.log10(disturbed / clean)


def _gradient(images: Tensor) -> Tensor:
    """Return the Sobel gradient magnitude [B, 1, H - 2, W - 2] of the luminance."""
    light = luminance(images)
    sobel = light.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    return torch.hypot(*(F.conv2d(light, kernel[None, None]) for kernel in (sobel, sobel.T)))


def _blur(planes: Tensor) -> Tensor:
    size = min(11, *planes.shape[-2:])
    offsets = torch.arange(size, dtype=torch.float64, device=planes.device) - (size - 1) / 2
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = (window / window.sum())[None, None]
    return F.conv2d(F.conv2d(planes, window[..., None]), window[:, :, None])
