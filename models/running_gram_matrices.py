"""The style of a whole domain: its images' mean Gram matrices."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.losses.style import gram


class RunningGramMatrices(nn.Module):
    """Mean Gram matrices of all images seen so far, one a layer; they lie in the state."""

    seen: Tensor  # images

    def __init__(self, widths: Mapping[str, int]) -> None:
        """Take layer -> channels."""
        super().__init__()
        self.layers = list(widths)
        self.register_buffer("seen", torch.zeros(()))
        for layer, width in widths.items():
            self.register_buffer(layer, torch.zeros(width, width))

    @torch.no_grad()
    def update(self, features: Mapping[str, Tensor]) -> None:
        """Take in images by their features, layer -> [B, C, H, W]."""
        count = len(features[self.layers[0]])
        self.seen += count
        for layer in self.layers:
            self.get_buffer(layer).lerp_(gram(features[layer]).mean(dim=0), count / self.seen)

    def means(self) -> dict[str, Tensor]:
        """Return layer -> [1, C, C], as they are now."""
        return {layer: self.get_buffer(layer).clone()[None] for layer in self.layers}
