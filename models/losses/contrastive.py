"""Contrastive losses between the features of image patches."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def patch_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Return the PatchNCE loss of one layer, a float32 scalar: the mean over images and patches.

    `query` and `key` [B, P, C] are L2-normalised features of translation and source at the same
    positions. The positive of a query is the key at its position, the negatives are the other keys
    of the same image; no gradient reaches `key` (Park et al. 2020, arXiv:2007.15651, Eq. 3 and 4).
    """
    similarity = query.float() @ key.detach().float().transpose(1, 2) / temperature
    positives = torch.arange(query.shape[1], device=query.device).expand(len(query), -1)
    return F.cross_entropy(similarity.flatten(0, 1), positives.flatten())


def layers_nce(queries: Sequence[Tensor], keys: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the mean of `patch_nce` over the layers, a float32 scalar."""
    pairs = zip(queries, keys, strict=True)
    return torch.stack([patch_nce(query, key, temperature) for query, key in pairs]).mean()
