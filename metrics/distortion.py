"""Errors between images and their ground truth, pooled over all images: L1, PSNR and SSIM."""

import math

from torch import Tensor

from metrics.structural_similarity import ssim

PSNR_RANGE = 2.0  # of images in [-1, 1]


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


def psnr(mean_squared_error: float, value_range: float = PSNR_RANGE) -> float | None:
    """Return 10 log10(range^2 / MSE) in dB; None for an error of 0, which has no finite value."""
    if mean_squared_error == 0:
        return None
    return 10 * math.log10(value_range**2 / mean_squared_error)
