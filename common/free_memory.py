"""Measure how much memory this process can still allocate."""

import contextlib
import resource
from pathlib import Path


def free_ram() -> int:
    """Return the bytes of RAM that can be allocated, within the limits of a container or shell."""
    bounds = [2**40]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        bounds += [1024 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable")]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{x}").read_text() for x in ("max", "current"))
        bounds.append(int(limit) - int(used))
    with contextlib.suppress(OSError, ValueError, IndexError):
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        bounds += [limit - taken] if limit != resource.RLIM_INFINITY else []
    return max(min(bounds), 0)
