"""What a discriminator is shown of the past: fakes, or its own features of them."""

from typing import Any

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """Show a discriminator a mixture of new fakes and old ones, which damps oscillation.

    Shrivastava et al. 2017, arXiv:1612.07828, Sec. 2.3.

    The first `size` images are stored and returned as they are. From then on each image is, with
    probability 1/2, returned; otherwise it takes the place of a random stored image, and that one is
    returned. Each image of a batch is treated on its own, in order. Size 0 returns its input.

    The stored images are part of the method's state: a resumed run sees the same past.

    What happens to an image is decided on the CPU and carried out on the device by index, so nothing
    waits for the device, and a recorded step (hardware/cuda_graphs.py) can be replayed with new decisions.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.count = 0
        self.images: Tensor | None = None  # [size, C, H, W], float32; the first `count` are filled
        self.swaps: Tensor | None = None  # [B, 3] on the device: slot, is stored, old is shown
        self.swaps_drawn = False

    def draw_swaps(self, count: int) -> None:
        """Draw what happens to the next `count` images, which `forward` does if nobody did before."""
        device = torch.device("cpu") if self.images is None else self.images.device
        rows = []
        swaps = torch.rand(count).lt(0.5).tolist()
        slots = torch.randint(max(self.size, 1), (count,)).tolist()
        for swap, slot in zip(swaps, slots, strict=True):
            filling = self.count < self.size
            rows.append((self.count, 1, 0) if filling else (slot, int(swap), int(swap)))
            self.count += filling
        swaps = torch.tensor(rows)
        if self.swaps is None or self.swaps.shape != swaps.shape or self.swaps.device != device:
            self.swaps = swaps.to(device, non_blocking=True)
        else:  # in place: a recorded step reads this memory
            self.swaps.copy_(swaps, non_blocking=True)
        self.swaps_drawn = True

    @torch.no_grad()
    def forward(self, fakes: Tensor) -> Tensor:
        """Return [B, C, H, W] images to show instead of `fakes` [B, C, H, W]; no gradient passes."""
        fakes = fakes.detach()
        if self.size == 0:
            return fakes
        if self.images is None or self.images.shape[1:] != fakes.shape[1:]:
            self.images = fakes.new_zeros((self.size, *fakes.shape[1:]), dtype=torch.float32)
            self.count, self.swaps_drawn = 0, False
        images = self.images = self.images.to(fakes.device)
        if not self.swaps_drawn:
            self.draw_swaps(len(fakes))
        assert self.swaps is not None
        self.swaps = self.swaps.to(fakes.device)  # after a checkpoint was read
        self.swaps_drawn = False
        seen = []
        for fake, (slot, keep, old_shown) in zip(fakes, self.swaps, strict=True):
            stored = keep.bool() & fake.isfinite().all()  # a step that failed leaves no trace
            old = images.index_select(0, slot[None])[0]
            seen.append(torch.where(old_shown.bool(), old, fake.float()))
            images.index_copy_(0, slot[None], torch.where(stored, fake.float(), old)[None])
        return torch.stack(seen).to(fakes.dtype)

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


class FeatureQueue(nn.Module):
    """Keep the last `size` feature maps that a discriminator made, oldest first, without a graph.

    They stand beside the next batch where a batch's statistics are wanted (Torbunov et al. 2023,
    arXiv:2303.16280, Sec. 3.2), and are part of the method's state. Only how many are there is known
    on the CPU: the maps move up on the device, so a recorded step (hardware/cuda_graphs.py) can be replayed.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.features: Tensor | None = None  # [size, C, h, w], float32; the last `count` are filled
        self.count = 0
        self.count_before = 0  # before what `decide` counted came in
        self.reserved = False

    @property
    def filled(self) -> int:
        """How many maps the coming step finds."""
        return self.count_before if self.reserved else self.count

    def reserve(self, count: int) -> None:
        """Count the next `count` images in, which `remember` does if nobody did before."""
        self.count_before, self.count = self.count, min(self.count + count, self.size)
        self.reserved = True

    def past(self, features: Tensor) -> Tensor | None:
        """Return the maps [n, C, h, w] that can stand beside `features` [B, C, h, w], or None."""
        if not self.filled or not self._fits(features):
            return None
        assert self.features is not None
        self.features = self.features.to(features.device)  # after a checkpoint was read
        return self.features[self.size - self.filled :]

    @torch.no_grad()
    def remember(self, features: Tensor) -> None:
        """Put [B, C, h, w] in; the oldest make room."""
        if not self.size:
            return
        if not self._fits(features):
            shape = (self.size, *features.shape[1:])
            self.features = features.new_zeros(shape, dtype=torch.float32)
            self.count, self.reserved = 0, False
        assert self.features is not None
        kept = self.features = self.features.to(features.device)
        if not self.reserved:
            self.reserve(len(features))
        self.reserved = False
        moved_up = torch.cat([kept, features.detach().float()])[-self.size :]
        finite = features.isfinite().all()  # a step that failed leaves no trace
        kept.copy_(torch.where(finite, moved_up, kept))

    def _fits(self, features: Tensor) -> bool:
        return self.features is not None and self.features.shape[1:] == features.shape[1:]

    def get_extra_state(self) -> dict[str, Any]:
        kept = None if self.features is None else self.features[self.size - self.count :].cpu()
        return {"features": kept}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        kept = state["features"]
        self.features, self.count, self.reserved = None, 0, False
        if kept is not None and self.size:
            self.count = min(len(kept), self.size)
            features = kept.new_zeros((self.size, *kept.shape[1:]))
            features[self.size - self.count :] = kept[len(kept) - self.count :]
            self.features = features
