"""Smooth the statistics of instance norms over the frames of a video, and measure its flicker."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from models.networks.layers.norm_act_pad import NormActPad
from models.networks.layers.op_backends import EPSILON, act_pad

STATISTICS_DECAY = 0.8  # of the moving average over frames: a half-life of three frames


class SmoothedNorm:
    """An instance norm whose mean and variance are exponential moving averages over frames.

    A moving object changes the statistics of the whole picture from frame to frame, and with them
    the colors of the parts that do not move. The moving average reduces that.
    """

    def __init__(self) -> None:
        self.variance: Tensor | None = None
        self.mean: Tensor | None = None
        self.size: torch.Size | None = None

    def __call__(self, x: Tensor, shortcut: Tensor | None, slope: float, padding: int) -> Tensor:
        variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
        same_scene = self.size == x.shape  # frames of another size are another scene
        if same_scene and self.mean is not None and self.variance is not None:
            variance = torch.lerp(variance, self.variance, STATISTICS_DECAY)
            mean = torch.lerp(mean, self.mean, STATISTICS_DECAY)
        self.size, self.variance, self.mean = x.shape, variance, mean
        normed = (x.float() - mean) * torch.rsqrt(variance + EPSILON)
        return act_pad(normed, shortcut, slope, padding).to(x.dtype)


@contextmanager
def smooth_statistics(network: nn.Module) -> Iterator[None]:
    """Smooth the statistics of every instance norm of `network` inside the context."""
    norms = [part for part in network.modules() if isinstance(part, NormActPad)]
    kernels = [norm.kernels for norm in norms]
    try:
        for norm in norms:
            norm.kernels = replace(norm.kernels, norm_act_pad=SmoothedNorm())
        yield
    finally:
        for norm, kernel_set in zip(norms, kernels, strict=True):
            norm.kernels = kernel_set


class Flicker:
    """Measure the flicker of a translated video: the mean absolute change from frame to frame.

    The same change of the input, which is reported too, accounts for motion, so that no optical
    flow is needed. At a ratio of 1 the output changes as much as the input.
    """

    def __init__(self) -> None:
        self.previous: tuple[np.ndarray, np.ndarray] | None = None
        self.sums = np.zeros(2)
        self.pairs = 0

    def update(self, real: np.ndarray, fake: np.ndarray) -> None:
        """Add a frame and its translation, uint8 [H, W, C]; another size begins a new scene."""
        if (
            self.previous is not None
            and self.previous[0].shape == real.shape
            and self.previous[1].shape == fake.shape
        ):
            for index, (old, new) in enumerate(zip(self.previous, (real, fake), strict=True)):
                self.sums[index] += np.abs(new.astype(np.int16) - old).mean()
            self.pairs += 1
        self.previous = (real, fake)

    def result(self) -> dict[str, float] | None:
        """Return the changes of input and output (8-bit levels a frame) and output / input.

        None without two successive frames of one size.
        """
        if not self.pairs:
            return None
        change_in, change_out = (self.sums / self.pairs).tolist()
        ratio = change_out / change_in if change_in else float("inf")
        return {"input": change_in, "output": change_out, "ratio": ratio}
