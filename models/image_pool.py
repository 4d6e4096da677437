"""Buffers of past fakes, or of features of past images, that discriminators are trained with."""

from typing import Any

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """Replace some new fakes by past ones before a discriminator sees them: it oscillates less.

    Shrivastava et al. 2017, arXiv:1612.07828, Sec. 2.3.

    The first `size` images are stored and returned unchanged. After that each image is, with
    probability 1/2, returned; otherwise it replaces a random stored image, and that one is
    returned. Images of a batch are treated one by one, in order. With size 0 the input is returned.

    The stored images are part of the method's state dict: a resumed run continues with them.

    The random decisions are drawn on the CPU and carried out on the device by index, so nothing
    waits for the device, and a captured CUDA graph (engine/hardware/cuda_graphs.py) can be replayed
    with new decisions.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.count = 0
        self.images: Tensor | None = None  # [size, C, H, W], float32; the first `count` are filled
        self.swaps: Tensor | None = None  # [B, 3] on the device: slot, store new, return old
        self.swaps_drawn = False

    def draw_swaps(self, count: int) -> None:
        """Draw the decisions for the next `count` images; `forward` does so if nothing else did."""
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
        else:  # in place: a captured CUDA graph reads this memory
            self.swaps.copy_(swaps, non_blocking=True)
        self.swaps_drawn = True

    @torch.no_grad()
    def forward(self, fakes: Tensor) -> Tensor:
        """Return new or past images [B, C, H, W] in place of `fakes` [B, C, H, W], detached."""
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
        self.swaps = self.swaps.to(fakes.device)  # on the CPU after a checkpoint was loaded
        self.swaps_drawn = False
        returned = []
        for fake, (slot, store_new, return_old) in zip(fakes, self.swaps, strict=True):
            is_stored = store_new.bool() & fake.isfinite().all()  # not in a failed step
            old = images.index_select(0, slot[None])[0]
            returned.append(torch.where(return_old.bool(), old, fake.float()))
            images.index_copy_(0, slot[None], torch.where(is_stored, fake.float(), old)[None])
        return torch.stack(returned).to(fakes.dtype)

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
    """Store the last `size` feature maps of a discriminator, oldest first and detached.

    They extend the next batch where the discriminator uses batch statistics (Torbunov et al. 2023,
    arXiv:2303.16280, Sec. 3.2), and are part of the method's state dict. Only their number is known
    on the CPU. The maps are shifted on the device, so that a captured CUDA graph
    (engine/hardware/cuda_graphs.py) can be replayed.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.features: Tensor | None = None  # [size, C, h, w], float32; the last `count` are filled
        self.count = 0
        self.count_before = 0  # `count` before `reserve` raised it
        self.reserved = False

    @property
    def filled(self) -> int:
        """Return how many past maps the coming step can use."""
        return self.count_before if self.reserved else self.count

    def reserve(self, count: int) -> None:
        """Count the next `count` maps in advance; `remember` does so if nothing else did."""
        self.count_before, self.count = self.count, min(self.count + count, self.size)
        self.reserved = True

    def past(self, features: Tensor) -> Tensor | None:
        """Return the stored maps [n, C, h, w] if they fit `features` [B, C, h, w], else None."""
        if not self.filled or not self._fits(features):
            return None
        assert self.features is not None
        self.features = self.features.to(features.device)  # on the CPU after loading
        return self.features[self.size - self.filled :]

    @torch.no_grad()
    def remember(self, features: Tensor) -> None:
        """Append [B, C, h, w]; the oldest maps drop out."""
        if not self.size:
            return
        if not self._fits(features):
            shape = (self.size, *features.shape[1:])
            self.features = features.new_zeros(shape, dtype=torch.float32)
            self.count, self.reserved = 0, False
        assert self.features is not None
        stored = self.features = self.features.to(features.device)
        if not self.reserved:
            self.reserve(len(features))
        self.reserved = False
        shifted = torch.cat([stored, features.detach().float()])[-self.size :]
        is_finite = features.isfinite().all()  # false in a failed step
        stored.copy_(torch.where(is_finite, shifted, stored))

    def _fits(self, features: Tensor) -> bool:
        return self.features is not None and self.features.shape[1:] == features.shape[1:]

    def get_extra_state(self) -> dict[str, Any]:
        filled = None if self.features is None else self.features[self.size - self.count :].cpu()
        return {"features": filled}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        filled = state["features"]
        self.features, self.count, self.reserved = None, 0, False
        if filled is not None and self.size:
            self.count = min(len(filled), self.size)
            features = filled.new_zeros((self.size, *filled.shape[1:]))
            features[self.size - self.count :] = filled[len(filled) - self.count :]
            self.features = features
