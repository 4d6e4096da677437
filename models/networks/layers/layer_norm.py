"""Layer normalisation (Ba et al. 2016, arXiv:1607.06450) as in MUNIT's decoder."""

import torch
from torch import Tensor, nn

EPSILON = 1e-5


class LayerNorm(nn.Module):
    """Normalise each sample over all channels and positions, then scale and shift each channel.

    Unlike an instance norm it preserves the differences in mean and deviation between channels,
    which encode the style. As in the authors' code the standard deviation is unbiased, epsilon is
    added to it rather than to the variance, and the scales are initialised from U(0, 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(channels).uniform_())
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same size; statistics in float32."""
        full = x if x.dtype == torch.float64 else x.float()
        std, mean = torch.std_mean(full, dim=(1, 2, 3), keepdim=True)
        normed = (full - mean) / (std + EPSILON)
        return (normed * self.gamma[:, None, None] + self.beta[:, None, None]).to(x.dtype)
