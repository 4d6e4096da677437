"""Contrastive losses between features of patches."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def patch_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Return how badly each patch of a translation tells its own source patch from the others.

    `query` and `key` are [B, P, C], of length 1 and from the same places; negatives are the other
    patches of the same image, and no gradient reaches `key` (Park et al. 2020, arXiv:2007.15651,
    Eq. 3 and 4).
    """
    similarity = query.float() @ key.detach().float().transpose(1, 2) / temperature
    aims = torch.arange(query.shape[1], device=query.device).expand(len(query), -1)
    return F.cross_entropy(similarity.flatten(0, 1), aims.flatten())


def layers_nce(queries: Sequence[Tensor], keys: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the mean of `patch_nce` over the layers that are compared."""
    pairs = zip(queries, keys, strict=True)
    return torch.stack([patch_nce(query, key, temperature) for query, key in pairs]).mean()
