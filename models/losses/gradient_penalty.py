"""Gradient penalties on a discriminator.

Each maps the [B] squared gradient norms that `squared_gradients` returns to a float32 scalar.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def squared_gradients(scores: Sequence[Tensor], images: Tensor) -> Tensor:
    """Return for each image the squared L2 norm of d(sum of its scores)/d(image), [B] in float32.

    `scores`, one tensor for each scale, were computed from `images` [B, C, H, W], which require a
    gradient. The result is differentiable again, so that it can be minimised.
    """
    total = torch.stack([score.float().sum() for score in scores]).sum()
    (gradients,) = torch.autograd.grad(total, images, create_graph=True)
    return gradients.float().square().flatten(1).sum(dim=1)


def r1(squared: Tensor) -> Tensor:
    """E[|grad D|^2] / 2 at real images (Mescheder et al. 2018, arXiv:1801.04406, Eq. 9)."""
    return 0.5 * squared.mean()


def wgan_gp(squared: Tensor) -> Tensor:
    """E[(|grad D| - 1)^2] between real and fake images.

    Gulrajani et al. 2017, arXiv:1704.00028, Eq. 3.
    """
    return ((squared + 1e-12).sqrt() - 1).square().mean()


def zero_centered_gp(squared: Tensor) -> Tensor:
    """E[|grad D|^2] between real and fake images (Thanh-Tung et al. 2019, arXiv:1902.03984)."""
    return squared.mean()
