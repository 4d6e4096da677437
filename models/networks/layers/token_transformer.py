"""A vision transformer over feature maps (Torbunov et al. 2022, arXiv:2203.02557, Sec. 3.1)."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TokenTransformer(nn.Module):
    """Apply a transformer whose tokens are the pixels of a feature map and one extra, learnt token.

    The output of the extra token describes the whole image (UVCGAN v2, arXiv:2303.16280). Position
    embeddings are sines of a linear map of row and column, both scaled to [-1, 1] over the height
    and width of any map, so the number of tokens is not fixed.
    """

    def __init__(
        self, channels: int, width: int, num_heads: int, blocks: int, mlp_ratio: int
    ) -> None:
        """Build for maps of `channels`; the MLPs are `mlp_ratio` times as wide as a token."""
        super().__init__()
        self.width = width
        self.position = nn.Linear(2, width)
        self.entry = nn.Linear(width + channels, width)
        self.extra = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, num_heads, mlp_ratio) for _ in range(blocks)
        )
        self.exit = nn.Linear(width, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, C, H, W] to the same size, and the extra token [B, width]."""
        batch, _, height, width = x.shape
        coordinates = grid(height, width, x.device).flatten(0, 1).to(self.position.weight.dtype)
        positions = torch.sin(self.position(coordinates))
        positions = positions.expand(batch, -1, -1)
        pixels = x.flatten(2).transpose(1, 2)
        tokens = self.entry(torch.cat([positions.to(pixels.dtype), pixels], dim=2))
        tokens = torch.cat([tokens, self.extra.to(tokens.dtype).expand(batch, -1, -1)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        pixels, extra = tokens[:, :-1], tokens[:, -1]
        return self.exit(pixels).transpose(1, 2).reshape(x.shape), extra

    def init_attention(self) -> None:
        """Initialise the attention weights as torch's attention does (Glorot & Bengio 2010)."""
        for block in self.blocks:
            nn.init.xavier_uniform_(cast(TransformerBlock, block).project.weight)


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP, both added to the tokens with one learnt strength.

    The strength starts at 0 (ReZero, Bachlechner et al. 2020, arXiv:2003.04887), so a new block is
    the identity.
    """

    def __init__(self, width: int, num_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)  # queries, keys and values
        self.out = nn.Linear(width, width)
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, mlp_ratio * width), nn.GELU(),
            nn.Linear(mlp_ratio * width, width),
        )  # fmt: skip
        self.strength = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, tokens, width] to the same size."""
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for part in self.project(self.attention_norm(x)).chunk(3, dim=2)
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.strength * self.out(attended)
        return x + self.strength * self.layers(x)


def grid(height: int, width: int, device: torch.device) -> Tensor:
    """Return row and column of every position, each from -1 to 1, [H, W, 2] in float32."""
    rows, columns = (evenly_spaced(side, device) for side in (height, width))
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=2)


def evenly_spaced(count: int, device: torch.device) -> Tensor:
    """Return `count` evenly spaced numbers from -1 to 1; a single one is -1."""
    last: Any = torch.sym_max(count - 1, 1)  # `count` is symbolic during an export
    return 2 * torch.arange(count, device=device) / last - 1
