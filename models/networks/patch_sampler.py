"""Features of patches for a contrastive loss (Park et al. 2020, arXiv:2007.15651, Sec. 3.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.networks.layers.initialization import init_weights

SMALL = 1e-7  # keeps the length of a feature from being zero


class PatchSampler(nn.Module):
    """Take features at random positions of several layers through a small network each, to length 1."""

    def __init__(self, widths: Sequence[int], out_features: int) -> None:
        """Take the channels of each layer; every layer gets two linear layers of its own."""
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, out_features), nn.ReLU(), nn.Linear(out_features, out_features)
            )
            for width in widths
        )
        init_weights(self, "xavier")

    def sample_patch_ids(self, features: Sequence[Tensor], patches: int) -> list[Tensor]:
        """Draw for each layer the positions of at most `patches` patches, the same for a whole batch."""
        counts = (layer.shape[2] * layer.shape[3] for layer in features)
        return [torch.rand(n, device=features[0].device).argsort()[:patches] for n in counts]

    def forward(self, features: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Map [B, C, H, W] and [P] of each layer to [B, P, out_features] of length 1."""
        sampled = []
        for layer, positions, network in zip(features, places, self.layers, strict=True):
            found = network(layer.flatten(2).transpose(1, 2)[:, positions])
            sampled.append(found / (found.norm(dim=2, keepdim=True) + SMALL))
        return sampled
