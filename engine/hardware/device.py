"""Define the options of the hardware, and choose the device."""

from dataclasses import dataclass
from typing import Literal

import torch

from common.errors import UserError

MAX_THREADS = 1024
Precision = Literal["auto", "fp32", "tf32", "bf16"]
Compile = Literal["none", "regions", "networks"]
Compression = Literal["none", "bf16"]


@dataclass(frozen=True)
class RuntimeConfig:
    """Device, precision and compilation."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    precision: Precision = "auto"  # auto: tf32 on CUDA, else fp32; weights and losses stay in fp32
    compile: Compile = "none"  # regions (norm, activation, padding) or whole networks: faster steps
    winograd: bool = True  # Winograd 3x3 convolutions, where regions are compiled on a CPU
    activation_checkpointing: bool = False  # recompute residual blocks in backward: less memory
    cuda_graph: bool = False  # replay the step as a CUDA graph: faster for small images, batches
    deterministic: bool = False  # deterministic kernels, on CUDA too; slower
    threads: int = 0  # CPU threads; 0: torch's default
    timeout: float = 600.0  # seconds that the processes of a run (torchrun) wait for each other
    gradient_compression: Compression = "none"  # bf16: exchange gradients in half the size

    def __post_init__(self) -> None:
        if not 0 <= self.threads <= MAX_THREADS:
            raise UserError(
                f"runtime.threads must be 0 to {MAX_THREADS}, got {self.threads}",
                option="runtime.threads",
            )
        if self.timeout <= 0:
            raise UserError(
                f"runtime.timeout must be more than 0, got {self.timeout}", option="runtime.timeout"
            )


def choose_device(name: str, local_rank: int = 0, world_size: int = 1) -> torch.device:
    """Return the device of process `local_rank` of a machine; UserError where it is missing.

    `world_size` is the number of processes that train together, on all machines.
    """
    device = _device(name)
    if world_size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UserError(
            f"several processes need runtime.device=cuda or cpu, not {device.type}",
            option="runtime.device",
        )
    if device.index is not None:
        raise UserError(
            f"runtime.device={name} is one device for several processes; leave out the number",
            option="runtime.device",
        )
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"this machine has {torch.cuda.device_count()} GPU(s); start as many processes "
            "(torchrun --nproc-per-node)"
        )
    return torch.device("cuda", local_rank)


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(
            f"runtime.device: no device is called '{name}'; use auto, cpu, cuda or mps",
            option="runtime.device",
        ) from None
    missing = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if missing.get(device.type, device.type != "cpu"):
        raise UserError(
            f"runtime.device={name} is not available on this machine; use auto or cpu",
            option="runtime.device",
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"runtime.device={name}: this machine has {torch.cuda.device_count()} GPU(s)",
            option="runtime.device",
        )
    return device
