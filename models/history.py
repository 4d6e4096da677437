"""Past fakes for a discriminator (Shrivastava et al. 2017, arXiv:1612.07828, Sec. 2.3)."""

from typing import Any

import torch
from torch import Tensor, nn


class ImageHistory(nn.Module):
    """Show a discriminator a mixture of new fakes and old ones, which damps oscillation.

    The first `size` images are stored and returned as they are. From then on each image is, with
    probability 1/2, returned; otherwise it takes the place of a random stored image, and that one is
    returned. Each image of a batch is treated on its own, in order. Size 0 returns its input.

    The stored images are part of the method's state: a resumed run sees the same past.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.count = 0
        self.images: Tensor | None = None  # [size, C, H, W], float32; the first `count` are filled

    @torch.no_grad()
    def forward(self, fakes: Tensor) -> Tensor:
        """Return [B, C, H, W] images to judge in place of `fakes` [B, C, H, W]; no gradient passes."""
        fakes = fakes.detach()
        if self.size == 0:
            return fakes
        if self.images is None or self.images.shape[1:] != fakes.shape[1:]:
            self.images = fakes.new_zeros((self.size, *fakes.shape[1:]), dtype=torch.float32)
            self.count = 0
        images = self.images = self.images.to(fakes.device)
        seen = fakes.clone()
        swaps = torch.rand(len(fakes)).lt(0.5).tolist()
        slots = torch.randint(self.size, (len(fakes),)).tolist()
        for row, (fake, swap, slot) in enumerate(zip(fakes, swaps, slots, strict=True)):
            if self.count < self.size:
                images[self.count] = fake
                self.count += 1
            elif swap:
                seen[row] = images[slot]
                images[slot] = fake
        return seen

    def get_extra_state(self) -> dict[str, Any]:
        filled = None if self.images is None else self.images[: self.count].cpu()
        return {"images": filled}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        filled = state["images"]
        self.count = 0 if filled is None else min(len(filled), self.size)
        self.images = None
        if filled is not None:
            images = filled.new_zeros((self.size, *filled.shape[1:]))
            images[: self.count] = filled[: self.count]
            self.images = images
