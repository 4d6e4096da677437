"""Run the training step of pytorch-CycleGAN-and-pix2pix or CUT from a checkout, beside our own."""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from errors import UserError
from models.methods.cyclegan import CycleGAN

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

    def take_weights_of(self, method: CycleGAN) -> None:
        """Copy our weights: both sides declare their layers in the same order."""
        ours = [method.to_b, method.to_a, method.judge_a, method.judge_b]
        with torch.no_grad():
            for theirs, mine in zip(self.networks(), ours, strict=True):
                for target, source in zip(theirs.parameters(), mine.parameters(), strict=True):
                    target.copy_(source)

    def step(self, a: Tensor, b: Tensor) -> None:
        """Take one training step on images [B, 3, H, W] in [-1, 1]."""
        self.model.set_input({"A": a, "B": b, "A_paths": "", "B_paths": ""})
        self.model.optimize_parameters()

    def losses(self) -> dict[str, float]:
        """Return the last step's losses under our names."""
        found = self.model.get_current_losses()
        return {ours: float(found[theirs]) for theirs, ours in self.LOSSES.items()}
