"""Hide the machine from the training code: device, precision, compilation, processes and seeds."""

import hashlib
import os
import sys
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.run_main import print_line
from engine.distributed.context import DistributedContext
from engine.distributed.gradient_averaging import average_gradients
from engine.hardware.compilation import (
    compile_network,
    compile_once,
    compiled_winograd,
    missing_compiler,
)
from engine.hardware.device import Precision, RuntimeConfig, choose_device
from engine.hardware.memory import keep_freed_memory
from models.gan_loss import GANLoss
from models.networks.generators.resnet_generator import ResnetGenerator
from models.networks.layers.op_backends import (
    EAGER,
    KernelSet,
    fusible_norm_act_pad,
    reflect_pad,
    use_kernels,
)


class Runtime:
    """The device, precision, memory format and processes that a run computes with."""

    def __init__(
        self, config: RuntimeConfig, distributed: DistributedContext | None = None
    ) -> None:
        """Choose the device and configure torch for it.

        UserError where the device is not available, or runtime.cuda_graph is not possible.
        """
        self.config = config
        self.distributed = distributed or DistributedContext()
        self.device = choose_device(
            config.device, self.distributed.local_rank, self.distributed.world_size
        )
        self.precision: Precision = config.precision
        if config.precision == "auto":
            self.precision = "tf32" if self.device.type == "cuda" else "fp32"
        if config.threads:
            torch.set_num_threads(config.threads)
        self.compile_mode: Literal["regions", "networks"] | None = None
        if config.compile != "none":
            missing = missing_compiler(self.device)
            if missing:
                print(
                    f"note: runtime.compile={config.compile} needs {missing}; running uncompiled",
                    file=sys.stderr,
                )
            else:
                self.compile_mode = config.compile
        # On a GPU, its libraries choose Winograd kernels themselves.
        self.winograd = config.winograd and self.device.type == "cpu"
        # Eager instance norm copies to the contiguous layout and back; the fused one takes either.
        channels_last = self.compile_mode is not None or self.device.type == "cuda"
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.uses_cuda_graph = config.cuda_graph
        if self.uses_cuda_graph and self.device.type != "cuda":
            raise UserError(
                "runtime.cuda_graph needs a CUDA device; leave it out", option="runtime.cuda_graph"
            )
        if self.uses_cuda_graph and self.distributed.is_distributed:
            raise UserError(
                "runtime.cuda_graph captures the step of one process; leave it out",
                option="runtime.cuda_graph",
            )
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.device.type == "cuda":
            # cuDNN's benchmark may take many gigabytes of workspace unless it is limited.
            os.environ.setdefault("CUDNN_CONV_WSCAP_DBG", "512")  # MiB
            # The benchmark may choose another kernel in each run.
            torch.backends.cudnn.benchmark = not config.deterministic
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            # An operation without a deterministic kernel warns once, and the run goes on.
            torch.use_deterministic_algorithms(True, warn_only=True)
        self.set_tf32()

    def set_tf32(self) -> None:
        """Allow or forbid TF32 as the precision requires: a global setting of the process."""
        allowed = self.precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.backends.cudnn.allow_tf32 = allowed

    def autocast(self) -> AbstractContextManager:
        """Return the autocast context in which networks run; never hold it over a `yield`."""
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def prepare(self, module: nn.Module, networks: list[nn.Module]) -> None:
        """Move `module` to the device, configure it, and compile `networks` where that is on."""
        module.to(self.device).to(memory_format=self.memory_format)
        for part in module.modules():
            if isinstance(part, GANLoss) and self.distributed.is_distributed:
                part.all_reduce_mean, part.world_size = (
                    self.distributed.all_reduce_mean,
                    self.distributed.world_size,
                )
            if isinstance(part, ResnetGenerator):
                part.recompute_trunk = self.config.activation_checkpointing
        use_kernels(module, self._kernels())
        has_resnet = any(isinstance(part, ResnetGenerator) for part in module.modules())
        if self.config.activation_checkpointing and not has_resnet:
            print_line(
                "note: runtime.activation_checkpointing has no effect without a ResNet generator"
            )
        if self.compile_mode == "networks":
            for network in networks:
                compile_network(network)

    def _kernels(self) -> KernelSet:
        """Return the functions that layers compute with, compiled as the options require."""
        if self.compile_mode == "networks":
            # Elementary operations, which the network's compiler fuses.
            return KernelSet(norm_act_pad=fusible_norm_act_pad)
        if self.compile_mode == "regions":
            conv3x3 = compiled_winograd() if self.winograd else EAGER.conv3x3
            return KernelSet(compile_once(fusible_norm_act_pad), compile_once(reflect_pad), conv3x3)
        return EAGER

    def to_device(self, images: Tensor) -> Tensor:
        """Copy images to the device, in the memory format of the networks."""
        return images.to(self.device, non_blocking=True, memory_format=self.memory_format)

    def average_gradients(
        self, parameters: list[nn.Parameter], losses: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Average gradients over all processes, in place; return `losses` averaged too."""
        if not self.distributed.is_distributed:
            return losses
        gradients = [p.grad for p in parameters if p.grad is not None]
        transfer_dtype = torch.bfloat16 if self.config.gradient_compression == "bf16" else None
        all_reduce_async, wait = self.distributed.all_reduce_async, self.distributed.wait
        return average_gradients(
            gradients, losses, self.distributed.world_size, transfer_dtype, all_reduce_async, wait
        )

    def average_statistics(self, buffers: list[Tensor]) -> None:
        """Average running statistics over all processes, which see different images, in place."""
        if not self.distributed.is_distributed or not buffers:
            return
        flat = self.distributed.all_reduce_mean(torch.cat([buffer.flatten() for buffer in buffers]))
        pieces = flat.split([buffer.numel() for buffer in buffers])
        for buffer, piece in zip(buffers, pieces, strict=True):
            buffer.copy_(piece.view(buffer.shape))

    def memory(self) -> dict[str, float]:
        """Return a CUDA device's peak memory in GiB, by log name; {} on other devices."""
        if self.device.type != "cuda":
            return {}
        return {"perf/gpu_mem_gb": torch.cuda.max_memory_allocated(self.device) / 2**30}

    def describe(self) -> dict[str, str | int]:
        """Return the facts of the machine that a measurement depends on, for the run's record."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        return {
            "device": str(self.device), "gpu": name, "precision": self.precision,
            "threads": torch.get_num_threads(), "processes": self.distributed.world_size,
        }  # fmt: skip


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch's generators from (seed, rank, step) alone, so that no random state is saved."""
    digest = hashlib.sha256(f"{seed}/{rank}/{step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
