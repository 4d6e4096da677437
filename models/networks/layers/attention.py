"""Self-attention over a feature map (Zhang et al. 2019, arXiv:1805.08318, Sec. 3)."""

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Compute x + gamma * o(x), where o is attention over all positions and gamma starts at 0.

    Queries and keys have an eighth of the channels, values half. The cost grows with the square of
    the number of positions, so the layer belongs at a network's smallest feature map, and it needs
    the whole map at once.
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
        # As in the paper, not divided by the square root of the width.
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.gamma * self.out(attended.transpose(1, 2).unflatten(2, x.shape[2:]))
