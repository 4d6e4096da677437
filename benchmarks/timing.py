"""What the benchmarks share: which variants are measured, and how long a call takes."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from common.errors import UserError


def chosen(option: str, names: str, variants: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variants of an option's comma-separated list; UserError for one that is not there."""
    for name in names.split(","):
        if name not in variants:
            raise UserError(f"{option}: there is no {name!r}, only {', '.join(variants)}")
    return {name: variants[name] for name in names.split(",")}


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Return how long a call takes, with the device's work done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
