"""Keep an exponential moving average (EMA) of the translators' weights."""

import copy

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """The average `ema` of the weights of the translators `model`, with a half-life in images.

    Karras et al. 2024 (arXiv:2312.02696, Sec. 3) and its predecessors: the decay of a step of B
    images is 0.5^(B / half-life), whatever the batch size. At first the half-life is at most a
    twentieth of the images seen, so that a short run is not an average of its beginning. Running
    statistics of a norm are copied, not averaged.
    """

    RAMP = 0.05

    def __init__(self, model: nn.ModuleDict, half_life: float) -> None:
        self.model = model
        self.half_life = half_life
        self.ema = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, images_seen: int, batch_size: int) -> None:
        """Move towards the model's weights after a step; `images_seen` includes its batch."""
        half_life = min(self.half_life, max(images_seen * self.RAMP, 1e-8))
        share = 1 - 0.5 ** (batch_size / half_life)
        averaged: list[Tensor] = [*self.ema.parameters()]
        if averaged:  # a translator may have running statistics and no weights
            torch._foreach_lerp_(averaged, [*self.model.parameters()], share)  # pyright: ignore[reportPrivateImportUsage]
        for copied, current in zip(self.ema.buffers(), self.model.buffers(), strict=True):
            copied.copy_(current)
