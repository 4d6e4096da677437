"""Device, precision, compilation and randomness: what differs between machines ends here."""

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import logging
import os
import resource
import shutil
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from errors import UserError
from models.networks.normalisation import (
    NormActPad,
    ReflectPad,
    fusible_norm_act_pad,
    reflect_pad,
)
from models.networks.resnet_generator import ResnetGenerator
from models.networks.winograd import Conv3x3, winograd

MOST_THREADS = 1024
Compile = Literal["none", "regions", "networks"]


@dataclass(frozen=True)
class RuntimeConfig:
    """On what, and how exactly, the networks run."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # weights and losses stay in fp32
    compile: Compile = "none"  # regions (norm, activation, padding) or whole networks: faster steps
    winograd: bool = True  # 3x3 convolutions in fewer products, where regions compile on a CPU
    checkpoint_activations: bool = False  # recompute trunks of instance norm: less memory
    cuda_graph: bool = False  # record the whole step once, launch it at once: many small kernels
    threads: int = 0  # CPU threads; 0 leaves it to torch


class Runtime:
    """The machine as the rest of the code sees it."""

    def __init__(self, config: RuntimeConfig) -> None:
        """Choose the device; UserError where the one asked for is not there."""
        self.config = config
        self.device = _device(config.device)
        if not 0 <= config.threads <= MOST_THREADS:
            raise UserError(f"runtime.threads must be 0 to {MOST_THREADS}, got {config.threads}")
        if config.threads:
            torch.set_num_threads(config.threads)
        self.compiling: Literal["regions", "networks"] | None = None
        if config.compile != "none":
            missing = _missing_compiler(self.device)
            if missing:
                print(
                    f"note: runtime.compile={config.compile} needs {missing}; running uncompiled",
                    file=sys.stderr,
                )
            else:
                self.compiling = config.compile
        # A GPU's libraries choose such kernels themselves.
        self.winograd = config.winograd and self.device.type == "cpu"
        # Eager instance norm copies to the contiguous layout and back; the fused one takes either.
        laid_out = self.compiling is not None or self.device.type == "cuda"
        self.memory_format = torch.channels_last if laid_out else torch.contiguous_format
        self.records = config.cuda_graph
        if self.records and self.device.type != "cuda":
            raise UserError("runtime.cuda_graph needs a CUDA device; leave it out")
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.device.type == "cuda":
            # Trying kernels out takes up to many gigabytes of workspace where nobody limits it.
            os.environ.setdefault("CUDNN_CONV_WSCAP_DBG", "512")  # MiB
            torch.backends.cudnn.benchmark = True
        fast = config.precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = fast
        torch.backends.cudnn.allow_tf32 = fast

    def autocast(self) -> AbstractContextManager:
        """Return the context in which networks run; never hold it over a `yield`."""
        enabled = self.config.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def prepare(self, module: nn.Module, networks: list[nn.Module]) -> None:
        """Move `module` to the device, and make it and its `networks` run as the options say."""
        module.to(self.device).to(memory_format=self.memory_format)
        for part in module.modules():
            if isinstance(part, ResnetGenerator):
                part.recompute_trunk = self.config.checkpoint_activations
            if self.compiling == "regions":
                if isinstance(part, ReflectPad):
                    part.kernel = compiled(reflect_pad)
                if isinstance(part, NormActPad):
                    part.kernel = compiled(fusible_norm_act_pad)
                if isinstance(part, Conv3x3) and self.winograd:
                    part.kernel = _winograd()
            elif self.compiling == "networks" and isinstance(part, NormActPad):
                part.kernel = fusible_norm_act_pad
        if self.compiling == "networks":
            for network in networks:
                network.compile()  # in place: the names in a checkpoint stay clean

    def receive(self, images: Tensor) -> Tensor:
        """Bring images to the device, in the memory layout of the networks."""
        return images.to(self.device, non_blocking=True, memory_format=self.memory_format)

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Average the gradients over all processes; one process has nothing to do."""

    def describe(self) -> dict[str, str | int]:
        """Return what a reader of the figures wants to know of the machine."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        return {
            "device": str(self.device), "gpu": name, "precision": self.config.precision,
            "threads": torch.get_num_threads(),
        }  # fmt: skip


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
    import torch._dynamo  # late: two seconds that only a compiled run should wait for

    # The shapes of all layers, in training and evaluation, are more than the default.
    torch._dynamo.config.recompile_limit = 256
    # It warns of every machine that has CUDA's files and no device.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports, of what is deprecated elsewhere
        return torch.compile(function, dynamic=dynamic)


@functools.cache
def _winograd() -> Callable[..., Tensor]:
    """Return the one convolution that all layers share, compiled for each of their shapes."""
    return winograd(functools.partial(_compile, dynamic=False))


def keep_freed_memory() -> None:
    """Let the C library keep large blocks for the next step instead of returning them.

    A step frees and takes the same blocks again; each return costs the kernel thousands of page
    faults. glibc's own limit for this is 32 MiB a block; elsewhere there is nothing to do.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(mmap_threshold, 32 * 2**20)
        library.mallopt(trim_threshold, 2**30)


def _missing_compiler(device: torch.device) -> str:
    """Return what torch.compile lacks on this machine, or nothing."""
    if device.type == "cuda":
        return "" if importlib.util.find_spec("triton") else "the triton package"
    return "" if shutil.which(os.environ.get("CXX", "g++")) else "a C++ compiler (g++, or CXX=...)"


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process may still take: of the device, or of machine and limits."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [2**40]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [1024 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable")]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{x}").read_text() for x in ("max", "current"))
        found.append(int(limit) - int(used))
    with contextlib.suppress(OSError, ValueError, IndexError):
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        found += [limit - taken] if limit != resource.RLIM_INFINITY else []
    return max(min(found), 0)


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch's generators as a function of (seed, rank, step) alone: there is no state to save."""
    digest = hashlib.sha256(f"{seed}/{rank}/{step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(
            f"runtime.device: no device is called '{name}'; use auto, cpu, cuda or mps"
        ) from None
    missing = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if missing.get(device.type, device.type != "cpu"):
        raise UserError(f"runtime.device={name} is not available on this machine; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"runtime.device={name}: this machine has {torch.cuda.device_count()} GPU(s)"
        )
    return device
