"""What a person may do with styles before a styled translator renders them: pure functions of tensors."""

import torch
from torch import Tensor


def interpolated(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Return the style at `share` of the way from `one` to `other`: 0 is the one, 1 the other."""
    return torch.lerp(one, other.to(one.dtype), share)


def truncated(style: Tensor, usual: Tensor, psi: float) -> Tensor:
    """Return `style` drawn towards the usual one: psi 1 leaves it, 0 gives `usual`.

    Less variety for safer images (Karras et al. 2019, arXiv:1812.04948, App. B). `style` is
    [B, style_dim] or [B, style_blocks, style_dim], `usual` [1, style_dim].
    """
    return torch.lerp(usual.to(style.dtype).expand_as(style), style, psi)


def mixed(coarse: Tensor, fine: Tensor, blocks: int, coarse_blocks: int) -> Tensor:
    """Return [B, blocks, style_dim]: the first `coarse_blocks` have one style, the rest the other.

    `coarse` and `fine` are [B, style_dim] ([1, style_dim] for all), `blocks` the translator's
    `style_blocks`; early blocks shape what is large, late ones what is small (Karras et al. 2019,
    Sec. 3.1). ValueError where there are not so many blocks.
    """
    if not 0 <= coarse_blocks <= blocks:
        raise ValueError(f"coarse_blocks must be 0 to {blocks}, got {coarse_blocks}")
    coarse, fine = torch.broadcast_tensors(coarse, fine)
    return torch.stack([coarse] * coarse_blocks + [fine] * (blocks - coarse_blocks), dim=1)
