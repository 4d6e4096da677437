"""Device, precision, compilation and randomness: what differs between machines ends here."""

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from errors import UserError


@dataclass(frozen=True)
class RuntimeConfig:
    """On what, and how exactly, the networks run."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # weights and losses stay in fp32
    compile: bool = False  # compile the networks: a slow start, faster steps
    threads: int = 0  # CPU threads; 0 leaves it to torch


class Runtime:
    """The machine as the rest of the code sees it."""

    def __init__(self, config: RuntimeConfig) -> None:
        """Choose the device; UserError where the one asked for is not there."""
        self.config = config
        self.device = _device(config.device)
        if config.threads < 0:
            raise UserError(f"runtime.threads must be 0 or more, got {config.threads}")
        if config.threads:
            torch.set_num_threads(config.threads)
        fast = config.precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = fast
        torch.backends.cudnn.allow_tf32 = fast

    def autocast(self) -> AbstractContextManager:
        """Return the context in which networks run; never hold it over a `yield`."""
        enabled = self.config.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def prepare(self, module: nn.Module, networks: list[nn.Module]) -> None:
        """Move `module` to the device, and compile each of its `networks` where that is asked for."""
        module.to(self.device)
        if self.config.compile:
            for network in networks:
                network.compile()  # in place: the names in a checkpoint stay clean

    def receive(self, images: Tensor) -> Tensor:
        """Bring a tensor to the device."""
        return images.to(self.device, non_blocking=True)

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Average the gradients over all processes; one process has nothing to do."""

    def describe(self) -> dict[str, str | int]:
        """Return what a reader of the figures wants to know of the machine."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        return {
            "device": str(self.device), "gpu": name, "precision": self.config.precision,
            "threads": torch.get_num_threads(),
        }  # fmt: skip


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
