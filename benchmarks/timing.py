"""Select the variants of a benchmark and time calls, for all benchmarks."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from common.errors import UserError


def select_variants(option: str, names: str, variants: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variants in an option's comma-separated list; UserError for an unknown one."""
    for name in names.split(","):
        if name not in variants:
            raise UserError(
                f"{option}: unknown name {name!r}; choose from {', '.join(variants)}", option=option
            )
    return {name: variants[name] for name in names.split(",")}


def measure_seconds(action: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes, until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
