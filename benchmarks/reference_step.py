"""Run the training step of a checkout of pytorch-CycleGAN-and-pix2pix or CUT."""

import argparse
import contextlib
import io
import multiprocessing
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks.timing import measure_seconds
from common.errors import UserError

SHARED_PACKAGES = ("models", "options", "data", "util")  # names that both projects use


@contextlib.contextmanager
def _reference_packages(path: Path) -> Iterator[None]:
    """Import these packages from the checkout at `path` inside the block."""
    our_modules = {
        name: sys.modules.pop(name)
        for name in list(sys.modules)
        if name.split(".")[0] in SHARED_PACKAGES
    }
    sys.path.insert(0, str(path))
    try:
        yield
    finally:
        sys.path.remove(str(path))
        for name in [name for name in sys.modules if name.split(".")[0] in SHARED_PACKAGES]:
            del sys.modules[name]
        sys.modules.update(our_modules)


class ReferenceStep:
    """The reference's CycleGAN: 9 blocks, 64 channels, identity loss, an image pool of 50."""

    # The reference's loss names -> ours. Its D_A discriminates images of domain B.
    LOSSES: ClassVar[Mapping[str, str]] = {
        "G_A": "adversarial_b", "G_B": "adversarial_a", "cycle_A": "cycle_a", "cycle_B": "cycle_b",
        "idt_A": "identity_b", "idt_B": "identity_a",
        "D_A": "discriminator_b", "D_B": "discriminator_a",
    }  # fmt: skip

    def __init__(self, path: Path, device: torch.device) -> None:
        if not (path / "models/cycle_gan_model.py").is_file():
            raise UserError(
                f"--reference {path} has no models/cycle_gan_model.py; name a checkout",
                option="--reference",
                path=path,
            )
        gpus = [device.index or 0] if device.type == "cuda" else []
        options: dict[str, Any] = {
            "input_nc": 3, "output_nc": 3, "ngf": 64, "ndf": 64,
            "netG": "resnet_9blocks", "netD": "basic",
            "norm": "instance", "normG": "instance", "normD": "instance", "no_dropout": True,
            "init_type": "normal", "init_gain": 0.02, "no_antialias": True, "no_antialias_up": True,
            "n_layers_D": 3, "lambda_A": 10.0, "lambda_B": 10.0, "lambda_identity": 0.5,
            "pool_size": 50, "gan_mode": "lsgan", "lr": 2e-4, "beta1": 0.5, "isTrain": True,
            "direction": "AtoB", "amp": False, "checkpoints_dir": ".", "name": "reference",
            "preprocess": "none", "gpu_ids": gpus,
            "device": device,
        }  # fmt: skip
        with _reference_packages(path), contextlib.redirect_stdout(io.StringIO()):
            from models.cycle_gan_model import CycleGANModel  # type: ignore[import-not-found]

            self.model = CycleGANModel(argparse.Namespace(**options))

    def networks(self) -> list[nn.Module]:
        """Return G: A -> B, G: B -> A, and the discriminators of A and B."""
        model = self.model
        return [model.netG_A, model.netG_B, model.netD_B, model.netD_A]

    def load_weights(self, weights: list[list[Tensor]]) -> None:
        """Copy our weights, one list of parameters per network, in the same order of layers."""
        with torch.no_grad():
            for network, ours in zip(self.networks(), weights, strict=True):
                for target, source in zip(network.parameters(), ours, strict=True):
                    target.copy_(source)

    def take_steps(self, a: Tensor, b: Tensor, count: int) -> float:
        """Take steps on images [B, 3, H, W] in [-1, 1]; return the mean seconds per step."""

        def run() -> None:
            for _ in range(count):
                self._take_step(a, b)

        return measure_seconds(run, a.device) / count

    def _take_step(self, a: Tensor, b: Tensor) -> None:
        self.model.set_input({"A": a, "B": b, "A_paths": "", "B_paths": ""})
        self.model.optimize_parameters()

    def to(self, dtype: torch.dtype) -> None:
        """Convert the networks and labels to `dtype`, and reset the optimizers."""
        for network in (*self.networks(), self.model.criterionGAN):
            network.to(dtype)
        for optimizer in self.model.optimizers:
            optimizer.state.clear()

    def losses(self) -> dict[str, float]:
        """Return the last step's losses under our names."""
        losses = self.model.get_current_losses()
        return {ours: float(losses[theirs]) for theirs, ours in self.LOSSES.items()}

    def gradients(self) -> list[list[Tensor]]:
        """Return the last step's gradients of all weights on the CPU, one list per network."""
        parameters = [list(network.parameters()) for network in self.networks()]
        return [
            [p.grad.cpu().clone() for p in network if p.grad is not None and p.ndim > 1]
            for network in parameters
        ]


class ReferenceProcess:
    """A ReferenceStep in its own process, where our global settings of torch have no effect.

    `call(name, *arguments)` runs one of the operations of `_serve` there and returns its result.
    """

    def __init__(self, path: Path, device: torch.device, images: list[Tensor]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child_connection = context.Pipe()
        arguments = (path, str(device), [image.numpy() for image in images], child_connection)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        self.call("ready")

    def call(self, name: str, *arguments: Any) -> Any:
        """Run an operation in the other process; an exception there is raised here."""
        self._connection.send((name, arguments))
        result = self._connection.recv()
        if isinstance(result, Exception):
            raise result
        return result


def _serve(path: Path, device_name: str, images: list[Any], connection: Any) -> None:
    try:
        device = torch.device(device_name)
        reference = ReferenceStep(path, device)
        a, b = (torch.from_numpy(image).to(device) for image in images)
    except Exception as error:  # sent to the parent, which raises it
        connection.recv()
        connection.send(error)
        return
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:  # the parent has ended
            return
        result: Any = None
        if name == "take_steps":
            result = reference.take_steps(a, b, *arguments)
        elif name in ("double", "float"):
            dtype = {"double": torch.float64, "float": torch.float32}[name]
            reference.to(dtype)
            a, b = a.to(dtype), b.to(dtype)
        elif name == "disable_tf32":
            torch.backends.cudnn.allow_tf32 = False
        elif name == "load_weights":
            reference.load_weights([[torch.from_numpy(x) for x in xs] for xs in arguments[0]])
        elif name == "gradients":
            result = [[x.numpy() for x in xs] for xs in reference.gradients()]
        elif name == "losses":
            result = reference.losses()
        connection.send(result)
