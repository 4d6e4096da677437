"""Self-attention between all places of a feature map (Zhang et al. 2019, arXiv:1805.08318, Sec. 3)."""

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """x + gamma * o(x): what every place has to say to every other, with gamma 0 at the start.

    Queries and keys have an eighth of the channels, values half. The work grows with the square of the
    number of places, so it stands where a network is narrowest, and the whole frame must be at hand.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query = nn.Conv2d(channels, narrow, 1)
        self.key = nn.Conv2d(channels, narrow, 1)
        self.value = nn.Conv2d(channels, half, 1)
        self.out = nn.Conv2d(half, channels, 1)
        self.gamma = nn.Parameter(self.out.weight.new_zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same size."""
        query, key, value = (
            layer(x).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        # Not divided by the square root of the width, as the paper has it.
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.gamma * self.out(attended.transpose(1, 2).unflatten(2, x.shape[2:]))
