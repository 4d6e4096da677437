"""Measure free memory, reuse freed memory, and recognize errors of too little memory."""

import contextlib
import ctypes
import re

import torch

from common.errors import RunError
from common.free_memory import free_ram


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks for the next step instead of returning them.

    Each step frees and allocates the same blocks; each return costs thousands of page faults. glibc
    allows this for blocks of up to 32 MiB; with another C library this does nothing.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(mmap_threshold, 32 * 2**20)
        library.mallopt(trim_threshold, 2**30)


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated: on a CUDA device, or of RAM within limits."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_ram()


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory ran out, of the device or the machine."""
    text = str(error).lower()
    unmapped = "failed to map segment" in text  # of a library that is imported late
    return isinstance(error, MemoryError) or unmapped or ("memory" in text and "alloc" in text)


def out_of_memory(error: Exception) -> RunError:
    """Return the error of a run that does not fit, with the requested size where it is known."""
    requested = re.search(r"allocate ([\d.]+ ?\w+)", str(error))
    return RunError(
        f"out of memory{f' (asked for {requested[1]})' if requested else ''}; lower batch_size "
        "(or split it with microbatches), data.crop_size or method.generator.channels, or set "
        "runtime.precision=bf16 or runtime.activation_checkpointing=true; "
        "plan=true measures what fits; checkpoints are intact"
    )
