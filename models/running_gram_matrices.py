"""Running means of Gram matrices: the style of a whole domain."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.losses.style import gram


class RunningGramMatrices(nn.Module):
    """Mean Gram matrices, one for each layer, of all images seen so far; stored as buffers."""

    seen: Tensor  # number of images

    def __init__(self, widths: Mapping[str, int]) -> None:
        """Take layer name -> channel count."""
        super().__init__()
        self.layers = list(widths)
        self.register_buffer("seen", torch.zeros(()))
        for layer, width in widths.items():
            self.register_buffer(layer, torch.zeros(width, width))

    @torch.no_grad()
    def update(self, features: Mapping[str, Tensor]) -> None:
        """Include images in the means, given their features: layer name -> [B, C, H, W]."""
        count = len(features[self.layers[0]])
        self.seen += count
        for layer in self.layers:
            self.get_buffer(layer).lerp_(gram(features[layer]).mean(dim=0), count / self.seen)

    def means(self) -> dict[str, Tensor]:
        """Return layer name -> a copy of the current mean, [1, C, C]."""
        return {layer: self.get_buffer(layer).clone()[None] for layer in self.layers}
