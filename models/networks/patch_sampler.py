"""Embed patches for a contrastive loss (Park et al. 2020, arXiv:2007.15651, Sec. 3.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.networks.layers.initialization import init_weights

EPSILON = 1e-7  # avoids division by zero when an embedding is normalised


class PatchSampler(nn.Module):
    """Map positions of several layers' features to unit vectors, by a two-layer MLP per layer."""

    def __init__(self, widths: Sequence[int], out_features: int) -> None:
        """Build one MLP per feature map; `widths` are the channels of the feature maps."""
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, out_features), nn.ReLU(), nn.Linear(out_features, out_features)
            )
            for width in widths
        )
        init_weights(self, "xavier")

    def sample_patch_ids(self, features: Sequence[Tensor], patches: int) -> list[Tensor]:
        """Draw at most `patches` positions for each layer, the same for the whole batch."""
        counts = (layer.shape[2] * layer.shape[3] for layer in features)
        return [torch.rand(n, device=features[0].device).argsort()[:patches] for n in counts]

    def forward(self, features: Sequence[Tensor], patch_ids: Sequence[Tensor]) -> list[Tensor]:
        """Map [B, C, H, W] and positions [P] of each layer to unit vectors [B, P, out_features]."""
        embeddings = []
        for layer, positions, mlp in zip(features, patch_ids, self.layers, strict=True):
            embedding = mlp(layer.flatten(2).transpose(1, 2)[:, positions])
            embeddings.append(embedding / (embedding.norm(dim=2, keepdim=True) + EPSILON))
        return embeddings
