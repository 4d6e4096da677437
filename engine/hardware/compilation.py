"""Compile functions and networks with torch.compile, where this machine has a compiler."""

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

COMPILER_TIMEOUT = 60  # seconds for an empty program


@functools.cache
def compile_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function compiled once for all layers.

    Training compiles a kernel for each shape, which is the fastest; evaluation, with images of any
    size, compiles one for all shapes as soon as it meets a second one.
    """
    static, dynamic = _compile(function, dynamic=False), _compile(function, dynamic=None)

    def call(*arguments: Any) -> Any:
        return (static if torch.is_grad_enabled() else dynamic)(*arguments)

    return call


def compile_network(network: nn.Module) -> None:
    """Compile a network in place, so that its state-dict keys stay as they are."""
    _allow_many_shapes()
    network.compile()


def _allow_many_shapes() -> None:
    import torch._dynamo  # late: it takes longer than torch itself, and only compiled runs need it

    # The layers, sizes and modes of training and evaluation need more variants than the default.
    torch._dynamo.config.recompile_limit = 256


def _compile(function: Callable[..., Any], dynamic: bool | None) -> Callable[..., Any]:
    _allow_many_shapes()
    # It warns on every machine that has CUDA's files but no device.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.compile imports modules that are deprecated
        return torch.compile(function, dynamic=dynamic)


@functools.cache
def compiled_winograd() -> Callable[..., Tensor]:
    """Return the Winograd 3x3 convolution of all layers, compiled for each of their shapes."""
    return winograd(functools.partial(_compile, dynamic=False))


def missing_compiler(device: torch.device) -> str:
    """Return what torch.compile needs and this machine lacks, or ""."""
    if device.type == "cuda":  # triton compiles the launchers of its kernels
        if not importlib.util.find_spec("triton"):
            return "the triton package"
        names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
        return "" if _compiles("c", *names) else "a C compiler that works (gcc, or CC=...)"
    works = _compiles("c++", os.environ.get("CXX", "g++"))
    return "" if works else "a C++ compiler that works (g++, or CXX=...)"


@functools.cache
def _compiles(language: str, *names: str) -> bool:
    """Return whether the first installed one of these compilers compiles an empty program."""
    compiler = next((path for name in names if (path := shutil.which(name))), None)
    if compiler is None:
        return False
    command = [compiler, "-x", language, "-c", "-", "-o", os.devnull]
    try:
        done = subprocess.run(
            command, input=b"int main(void){return 0;}", capture_output=True, check=False,
            timeout=COMPILER_TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
