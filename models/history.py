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

    What happens to an image is decided on the CPU and carried out on the device by index, so nothing
    waits for the device, and a recorded step (engine/cuda.py) can be replayed with new decisions.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.count = 0
        self.images: Tensor | None = None  # [size, C, H, W], float32; the first `count` are filled
        self.decisions: Tensor | None = None  # [B, 3] on the device: slot, is stored, old is shown
        self.decided = False

    def decide(self, count: int) -> None:
        """Draw what happens to the next `count` images, which `forward` does if nobody did before."""
        device = torch.device("cpu") if self.images is None else self.images.device
        rows = []
        swaps = torch.rand(count).lt(0.5).tolist()
        slots = torch.randint(max(self.size, 1), (count,)).tolist()
        for swap, slot in zip(swaps, slots, strict=True):
            filling = self.count < self.size
            rows.append((self.count, 1, 0) if filling else (slot, int(swap), int(swap)))
            self.count += filling
        decisions = torch.tensor(rows)
        if (
            self.decisions is None
            or self.decisions.shape != decisions.shape
            or self.decisions.device != device
        ):
            self.decisions = decisions.to(device, non_blocking=True)
        else:  # in place: a recorded step reads this memory
            self.decisions.copy_(decisions, non_blocking=True)
        self.decided = True

    @torch.no_grad()
    def forward(self, fakes: Tensor) -> Tensor:
        """Return [B, C, H, W] images to judge in place of `fakes` [B, C, H, W]; no gradient passes."""
        fakes = fakes.detach()
        if self.size == 0:
            return fakes
        if self.images is None or self.images.shape[1:] != fakes.shape[1:]:
            self.images = fakes.new_zeros((self.size, *fakes.shape[1:]), dtype=torch.float32)
            self.count, self.decided = 0, False
        images = self.images = self.images.to(fakes.device)
        if not self.decided:
            self.decide(len(fakes))
        assert self.decisions is not None
        self.decisions = self.decisions.to(fakes.device)  # after a checkpoint was read
        self.decided = False
        seen = []
        for fake, (slot, keep, old_shown) in zip(fakes, self.decisions, strict=True):
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
