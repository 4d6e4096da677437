"""Frames of one scene: the norms' statistics are smoothed over time, and flicker is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from models.networks.layers.kernels import EPSILON, act_pad
from models.networks.layers.norm_act_pad import NormActPad

MEMORY = 0.8  # share of the past in each frame's statistics: half of it is gone after three frames


class SmoothedNorm:
    """An instance norm whose mean and variance change slowly from call to call.

    From one frame to the next a moving object changes the statistics of the whole picture, and with
    them the colours of what stands still. An exponential average over frames damps that.
    """

    def __init__(self) -> None:
        self.variance: Tensor | None = None
        self.mean: Tensor | None = None
        self.size: torch.Size | None = None

    def __call__(self, x: Tensor, shortcut: Tensor | None, slope: float, padding: int) -> Tensor:
        variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
        same_scene = self.size == x.shape  # frames of another size begin a new one
        if same_scene and self.mean is not None and self.variance is not None:
            variance = torch.lerp(variance, self.variance, MEMORY)
            mean = torch.lerp(mean, self.mean, MEMORY)
        self.size, self.variance, self.mean = x.shape, variance, mean
        normed = (x.float() - mean) * torch.rsqrt(variance + EPSILON)
        return act_pad(normed, shortcut, slope, padding).to(x.dtype)


@contextmanager
def smooth_statistics(network: nn.Module) -> Iterator[None]:
    """Smooth the statistics of every instance norm while the context lasts."""
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
    """How restless a translated video is: the mean absolute change from frame to frame.

    No optical flow is needed: the input's own change, printed beside it, is what motion accounts for.
    A ratio near 1 is as calm as the input.
    """

    def __init__(self) -> None:
        self.last: tuple[np.ndarray, np.ndarray] | None = None
        self.sums = np.zeros(2)
        self.pairs = 0

    def update(self, real: np.ndarray, fake: np.ndarray) -> None:
        """Add a frame and its translation, uint8 [H, W, C]; another size begins a new scene."""
        if (
            self.last is not None
            and self.last[0].shape == real.shape
            and self.last[1].shape == fake.shape
        ):
            for place, (old, new) in enumerate(zip(self.last, (real, fake), strict=True)):
                self.sums[place] += np.abs(new.astype(np.int16) - old).mean()
            self.pairs += 1
        self.last = (real, fake)

    def result(self) -> dict[str, float] | None:
        """Return input, output (levels of 255 a frame) and their ratio; None without two frames."""
        if not self.pairs:
            return None
        change_in, change_out = (self.sums / self.pairs).tolist()
        ratio = change_out / change_in if change_in else float("inf")
        return {"input": change_in, "output": change_out, "ratio": ratio}
