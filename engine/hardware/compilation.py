"""Functions compiled once for all layers, where this machine has a compiler."""

import functools
import importlib.util
import logging
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.layers.winograd import winograd


@functools.cache
def compile_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function compiled once for all layers.

    In training there is a kernel for each shape, which is the fastest; in evaluation, which meets
    images of any size, one for all shapes once there are two.
    """
    fixed, general = _compile(function, dynamic=False), _compile(function, dynamic=None)

    def call(*arguments: Any) -> Any:
        return (fixed if torch.is_grad_enabled() else general)(*arguments)

    return call


def compile_network(network: nn.Module) -> None:
    """Compile a network in place, so that the names in a checkpoint stay clean."""
    _allow_many_shapes()
    network.compile()


def _allow_many_shapes() -> None:
    import torch._dynamo  # late: it takes longer than torch itself, and only compiled runs need it

    # All layers, sizes and ways of calling, in training and evaluation, are more than the default.
    torch._dynamo.config.recompile_limit = 256


def _compile(function: Callable[..., Any], dynamic: bool | None) -> Callable[..., Any]:
    _allow_many_shapes()
    # It warns of every machine that has CUDA's files and no device.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports, of what is deprecated elsewhere
        return torch.compile(function, dynamic=dynamic)


@functools.cache
def compiled_winograd() -> Callable[..., Tensor]:
    """Return the one convolution that all layers share, compiled for each of their shapes."""
    return winograd(functools.partial(_compile, dynamic=False))


def missing_compiler(device: torch.device) -> str:
    """Return what torch.compile lacks on this machine, or nothing."""
    if device.type == "cuda":  # triton compiles what launches its kernels
        if not importlib.util.find_spec("triton"):
            return "the triton package"
        names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
        return "" if _compiles("c", *names) else "a C compiler that works (gcc, or CC=...)"
    found = _compiles("c++", os.environ.get("CXX", "g++"))
    return "" if found else "a C++ compiler that works (g++, or CXX=...)"


@functools.cache
def _compiles(language: str, *names: str) -> bool:
    """Say whether the first of these compilers that is there compiles an empty program."""
    there = next((path for name in names if (path := shutil.which(name))), None)
    if there is None:
        return False
    words = [there, "-x", language, "-c", "-", "-o", os.devnull]
    done = subprocess.run(
        words, input=b"int main(void){return 0;}", capture_output=True, check=False
    )
    return done.returncode == 0
