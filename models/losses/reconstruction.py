"""Distances between a tensor and its target."""

from torch import Tensor


def l1(image: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of two [B, C, H, W] tensors, a float32 scalar."""
    return (image.float() - target.float()).abs().mean()


def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of two tensors of one shape, a float32 scalar."""
    return (prediction.float() - target.float()).square().mean()
