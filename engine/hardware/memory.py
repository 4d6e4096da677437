"""What memory there is, how a process keeps it, and how it says that there was too little."""

import contextlib
import ctypes
import re
import resource
from pathlib import Path

import torch

from common.errors import RunError


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


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error means that memory ran out, of the device or the machine."""
    text = str(error).lower()
    unmapped = "failed to map segment" in text  # a library that is imported when it is first needed
    return isinstance(error, MemoryError) or unmapped or ("memory" in text and "alloc" in text)


def out_of_memory(error: Exception) -> RunError:
    """Return the line for a run that does not fit, with the size that was asked for where it is known."""
    found = re.search(r"allocate ([\d.]+ ?\w+)", str(error))
    return RunError(
        f"out of memory{f' (asked for {found[1]})' if found else ''}; lower batch_size (or compute it in "
        "parts with accumulate), data.crop_size or method.generator.channels, or set "
        "runtime.precision=bf16 or runtime.activation_checkpointing=true; plan=true measures what fits; "
        "checkpoints are intact"
    )
