"""Normalisation of a whole sample (Ba et al. 2016, arXiv:1607.06450) as MUNIT's decoder has it."""

import torch
from torch import Tensor, nn

EPSILON = 1e-5


class LayerNorm(nn.Module):
    """Take every sample to mean 0 and deviation 1 over all its channels and places, then scale channels.

    Unlike an instance norm it leaves the channels their own means and strengths, in which a style is.
    As in the authors' code the deviation is the unbiased one, epsilon is added to it rather than to
    the variance, and the scales begin as U(0, 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(channels).uniform_())
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same size; statistics in float32."""
        full = x if x.dtype == torch.float64 else x.float()
        deviation, mean = torch.std_mean(full, dim=(1, 2, 3), keepdim=True)
        normed = (full - mean) / (deviation + EPSILON)
        return (normed * self.gamma[:, None, None] + self.beta[:, None, None]).to(x.dtype)
