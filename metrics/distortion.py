"""Errors between images and their ground truth: L1, PSNR and SSIM."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class Distortion:
    """Accumulate image pairs in [-1, 1] and compute their mean L1, pooled PSNR and mean SSIM.

    `update` takes [B, C, H, W] pairs of any size. `result` returns `count`, `l1` (0 to 2), `psnr`
    in dB from the squared error pooled over all pixels (so that identical pairs cannot raise the
    mean to infinity; None if all pairs are identical), and `ssim` (-1 to 1), the mean over images.
    """

    def __init__(self) -> None:
        self.count = 0
        self.values = 0
        self.absolute = 0.0
        self.squared = 0.0
        self.structure = 0.0

    def update(self, image: Tensor, truth: Tensor) -> dict[str, float | None]:
        """Add a batch of pairs; return the metrics of this batch alone."""
        batch = Distortion()
        batch._add(image, truth)
        self._add(image, truth)
        return batch.result()

    def _add(self, image: Tensor, truth: Tensor) -> None:
        difference = image.double() - truth.double()
        self.count += len(image)
        self.values += difference.numel()
        self.absolute += difference.abs().sum().item()
        self.squared += difference.square().sum().item()
        self.structure += ssim(image, truth).sum().item()

    def result(self) -> dict[str, float | None]:
        """Return the metrics over all pairs added so far."""
        return {
            "count": self.count,
            "l1": self.absolute / self.values,
            "psnr": psnr(self.squared / self.values),
            "ssim": self.structure / self.count,
        }


def psnr(mean_squared_error: float, value_range: float = 2.0) -> float | None:
    """Return 10 log10(range^2 / MSE) in dB; None for an error of 0, which has no finite value."""
    if mean_squared_error == 0:
        return None
    return 10 * math.log10(value_range**2 / mean_squared_error)


def ssim(image: Tensor, truth: Tensor, value_range: float = 2.0) -> Tensor:
    """Return the structural similarity of each image, [B], for pairs [B, C, H, W].

    Wang et al. 2004 (IEEE TIP 13(4), Eq. 13): Gaussian window of 11 pixels and deviation 1.5
    (smaller for images under 11 pixels), K1 = 0.01, K2 = 0.03, population statistics, valid
    positions only, averaged over the channels.
    """
    image, truth = image.double(), truth.double()
    channels, size = image.shape[1], min(11, *image.shape[-2:])
    offsets = torch.arange(size, dtype=torch.float64, device=image.device) - (size - 1) / 2
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = (window / window.sum()).expand(channels, 1, -1)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(
            F.conv2d(x, window[..., None], groups=channels), window[:, :, None], groups=channels
        )

    mean_x, mean_y = blur(image), blur(truth)
    variance_x = blur(image.square()) - mean_x.square()
    variance_y = blur(truth.square()) - mean_y.square()
    covariance = blur(image * truth) - mean_x * mean_y
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2)
    return similarity.mean(dim=(1, 2, 3))
