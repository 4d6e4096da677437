"""Run the training step of pytorch-CycleGAN-and-pix2pix or CUT from a checkout, beside our own."""

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

from benchmarks.timing import seconds_of
from common.errors import UserError

OURS = ("models", "options", "data", "util")  # package names that both projects use


@contextlib.contextmanager
def _their_packages(path: Path) -> Iterator[None]:
    """Let `import models` mean the checkout's packages for a while."""
    mine = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in OURS}
    sys.path.insert(0, str(path))
    try:
        yield
    finally:
        sys.path.remove(str(path))
        for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
            del sys.modules[name]
        sys.modules.update(mine)


class ReferenceStep:
    """The reference's CycleGAN with its default options: 9 blocks, 64 channels, identity, history 50."""

    # Their loss names -> ours. Their D_A judges domain B.
    LOSSES: ClassVar[Mapping[str, str]] = {
        "G_A": "adversarial_b", "G_B": "adversarial_a", "cycle_A": "cycle_a", "cycle_B": "cycle_b",
        "idt_A": "identity_b", "idt_B": "identity_a", "D_A": "discriminator_b", "D_B": "discriminator_a",
    }  # fmt: skip

    def __init__(self, path: Path, device: torch.device) -> None:
        if not (path / "models/cycle_gan_model.py").is_file():
            raise UserError(
                f"--reference {path}: no models/cycle_gan_model.py in it; name a checkout"
            )
        gpus = [device.index or 0] if device.type == "cuda" else []
        options: dict[str, Any] = {
            "input_nc": 3, "output_nc": 3, "ngf": 64, "ndf": 64, "netG": "resnet_9blocks", "netD": "basic",
            "norm": "instance", "normG": "instance", "normD": "instance", "no_dropout": True,
            "init_type": "normal", "init_gain": 0.02, "no_antialias": True, "no_antialias_up": True,
            "n_layers_D": 3, "lambda_A": 10.0, "lambda_B": 10.0, "lambda_identity": 0.5, "pool_size": 50,
            "gan_mode": "lsgan", "lr": 2e-4, "beta1": 0.5, "isTrain": True, "direction": "AtoB", "amp": False,
            "checkpoints_dir": ".", "name": "reference", "preprocess": "none", "gpu_ids": gpus,
            "device": device,
        }  # fmt: skip
        with _their_packages(path), contextlib.redirect_stdout(io.StringIO()):
            from models.cycle_gan_model import CycleGANModel  # type: ignore[import-not-found]

            self.model = CycleGANModel(argparse.Namespace(**options))

    def networks(self) -> list[nn.Module]:
        """Return G: A -> B, G: B -> A, and the judges of A and B."""
        model = self.model
        return [model.netG_A, model.netG_B, model.netD_B, model.netD_A]

    def take_weights(self, weights: list[list[Tensor]]) -> None:
        """Copy our weights, a list of parameters a network: both declare their layers in one order."""
        with torch.no_grad():
            for network, ours in zip(self.networks(), weights, strict=True):
                for target, source in zip(network.parameters(), ours, strict=True):
                    target.copy_(source)

    def steps(self, a: Tensor, b: Tensor, count: int) -> float:
        """Take training steps on images [B, 3, H, W] in [-1, 1]; return the mean seconds of one."""

        def play() -> None:
            for _ in range(count):
                self._step(a, b)

        return seconds_of(play, a.device) / count

    def _step(self, a: Tensor, b: Tensor) -> None:
        self.model.set_input({"A": a, "B": b, "A_paths": "", "B_paths": ""})
        self.model.optimize_parameters()

    def to(self, dtype: torch.dtype) -> None:
        """Make networks and labels of this type, optimizers as new."""
        for network in (*self.networks(), self.model.criterionGAN):
            network.to(dtype)
        for optimizer in self.model.optimizers:
            optimizer.state.clear()

    def losses(self) -> dict[str, float]:
        """Return the last step's losses under our names."""
        found = self.model.get_current_losses()
        return {ours: float(found[theirs]) for theirs, ours in self.LOSSES.items()}

    def gradients(self) -> list[list[Tensor]]:
        """Return the last step's gradients of all weights on the CPU, a list a network."""
        parameters = [list(network.parameters()) for network in self.networks()]
        return [
            [p.grad.cpu().clone() for p in network if p.grad is not None and p.ndim > 1]
            for network in parameters
        ]


class ReferenceProcess:
    """The reference in a process of its own, which none of our settings reach.

    `ask(name, *arguments)` calls a method of its ReferenceStep and returns the answer.
    """

    def __init__(self, path: Path, device: torch.device, images: list[Tensor]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (path, str(device), [image.numpy() for image in images], theirs)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        self.ask("ready")

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a method over there."""
        self._connection.send((name, arguments))
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(path: Path, device_name: str, images: list[Any], connection: Any) -> None:
    try:
        device = torch.device(device_name)
        reference = ReferenceStep(path, device)
        a, b = (torch.from_numpy(image).to(device) for image in images)
    except Exception as error:  # told to the process that asked
        connection.recv()
        connection.send(error)
        return
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:  # nobody asks any more
            return
        answer: Any = None
        if name == "steps":
            answer = reference.steps(a, b, *arguments)
        elif name in ("double", "float"):
            dtype = {"double": torch.float64, "float": torch.float32}[name]
            reference.to(dtype)
            a, b = a.to(dtype), b.to(dtype)
        elif name == "exact":
            torch.backends.cudnn.allow_tf32 = False
        elif name == "take_weights":
            reference.take_weights([[torch.from_numpy(x) for x in xs] for xs in arguments[0]])
        elif name == "gradients":
            answer = [[x.numpy() for x in xs] for xs in reference.gradients()]
        elif name == "losses":
            answer = reference.losses()
        connection.send(answer)
