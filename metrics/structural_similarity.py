"""Structural similarity of images, at one scale (SSIM) and at five (MS-SSIM)."""

import torch
import torch.nn.functional as F
from torch import Tensor

C1, C2 = 0.01**2, 0.03**2  # the papers' constants for intensities from 0 to 1
WINDOW, STD = 11, 1.5  # of the Gaussian window, in pixels
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MIN_SIDE_MS = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1  # 161 pixels


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity of each image, [B], for pairs [B, C, H, W] in [-1, 1].

    Wang et al. 2004 (IEEE TIP 13(4), Eq. 13) on intensities from 0 to 1, since its luminance term
    assumes that they are not negative: Gaussian window of 11 pixels and deviation 1.5 (smaller for
    images under 11 pixels), K1 = 0.01, K2 = 0.03, population statistics, valid positions only,
    averaged over the channels.
    """
    luminance, contrast = _terms((image.double() + 1) / 2, (truth.double() + 1) / 2)
    return (luminance * contrast).mean(dim=(1, 2, 3))


def ms_ssim(image: Tensor, truth: Tensor) -> Tensor | None:
    """Return the multi-scale structural similarity [B] of pairs [B, C, H, W] in [-1, 1].

    Wang et al. 2003 (Multi-scale structural similarity for image quality assessment, Eq. 7): the
    contrast terms of five scales and the luminance term of the coarsest, on intensities from 0 to
    1, each scale averaged over 2x2 pixels of the one before; negative contrast terms count as 0.
    None for images under 161 pixels a side, which have no five scales.
    """
    if min(image.shape[-2:]) < MIN_SIDE_MS:
        return None
    x, y = (image.double() + 1) / 2, (truth.double() + 1) / 2
    product = torch.ones(x.shape[:2], dtype=torch.float64, device=x.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        luminance, contrast = _terms(x, y)
        last = scale == len(SCALE_WEIGHTS) - 1
        mean = (luminance * contrast if last else contrast).mean(dim=(2, 3))
        product = product * mean.clamp(min=0) ** weight
        if not last:
            x, y = (F.avg_pool2d(z, 2, padding=[side % 2 for side in z.shape[2:]]) for z in (x, y))
    return product.mean(dim=1)


def _terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the luminance term and the product of contrast and structure, [B, C, H, W] each."""
    channels, size = x.shape[1], min(WINDOW, *x.shape[-2:])
    offsets = torch.arange(size, dtype=torch.float64, device=x.device) - (size - 1) / 2
    window = torch.exp(-offsets.square() / (2 * STD**2))
    window = (window / window.sum()).expand(channels, 1, -1)

    def blur(z: Tensor) -> Tensor:
        rows = F.conv2d(z, window[..., None], groups=channels)
        return F.conv2d(rows, window[:, :, None], groups=channels)

    mean_x, mean_y = blur(x), blur(y)
    variance_x = blur(x.square()) - mean_x.square()
    variance_y = blur(y.square()) - mean_y.square()
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
    return luminance, (2 * covariance + C2) / (variance_x + variance_y + C2)
