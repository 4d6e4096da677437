"""Functions compiled once for all layers, where this machine has a compiler."""

import functools
import importlib.util
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.networks.winograd import winograd


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function compiled once for all layers.

    In training there is a kernel for each shape, which is the fastest; in evaluation, which meets
    images of any size, one for all shapes once there are two.
    """
    fixed, general = _compile(function, dynamic=False), _compile(function, dynamic=None)

    def call(*arguments: Any) -> Any:
        return (fixed if torch.is_grad_enabled() else general)(*arguments)

    return call


def _compile(function: Callable[..., Any], dynamic: bool | None) -> Callable[..., Any]:
    import torch._dynamo  # late: it takes longer than torch itself, and only compiled runs need it

    # The shapes of all layers, in training and evaluation, are more than the default.
    torch._dynamo.config.recompile_limit = 256
    # It warns of every machine that has CUDA's files and no device.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports, of what is deprecated elsewhere
        return torch.compile(function, dynamic=dynamic)


@functools.cache
def fast_convolution() -> Callable[..., Tensor]:
    """Return the one convolution that all layers share, compiled for each of their shapes."""
    return winograd(functools.partial(_compile, dynamic=False))


def missing_compiler(device: torch.device) -> str:
    """Return what torch.compile lacks on this machine, or nothing."""
    if device.type == "cuda":
        return "" if importlib.util.find_spec("triton") else "the triton package"
    return "" if shutil.which(os.environ.get("CXX", "g++")) else "a C++ compiler (g++, or CXX=...)"
