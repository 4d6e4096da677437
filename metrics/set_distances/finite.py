"""Refuse features that are not finite: sums and comparisons with NaN look like good figures."""

import torch
from torch import Tensor


def require_finite(*features: Tensor) -> None:
    """Raise ValueError where a row of features [N, D] has NaN or infinity; it says how many do."""
    for rows in features:
        if broken := int((~torch.isfinite(rows.flatten(1))).any(dim=1).sum()):
            raise ValueError(f"{broken} of {len(rows)} images have features that are not finite")
