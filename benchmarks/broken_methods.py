"""Break a method in several ways and check that the known-truth gate fails for each.

    python benchmarks/broken_methods.py METHOD [--only NAME ...] [--json] [option=value ...]

A gate that cannot fail proves nothing. For each mutation, this changes the method in memory, trains
it on `season` as benchmarks/known_truth.py does, and scores it. The gate is a PSNR of 22 dB against
the true translation in every direction. The exit code is 1 if the unmodified method fails the gate
or a broken one passes it.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import Tensor, nn

from benchmarks import known_truth
from common.run_main import run_command
from inference.open_run import Run, open_run
from models import methods
from models.gan_loss import GANLoss
from models.method import Batch, Method, Update

GATE = 22.0  # dB, in every direction
Patch = contextlib.AbstractContextManager[Any]
# Method -> settings that disable its content losses; contrastive weights cannot be 0.
NO_CONTENT_LOSS = {
    "cyclegan": ["method.cycle_weight=0"],
    "gcgan": ["method.geometry_weight=0"],
    "munit": ["method.cycle_weight=0", "method.content_weight=0", "method.reconstruction_weight=0"],
    "stargan_v2": ["method.cycle_weight=0"],
    "unit": ["method.cycle_weight=0", "method.reconstruction_weight=0"],
    "uvcgan_v2": ["method.cycle_weight=0"],
}


def unmodified(_: type[Method]) -> Patch:
    """Change nothing."""
    return contextlib.nullcontext()


def swapped_labels(_: type[Method]) -> Patch:
    """Exchange real and fake images in the discriminator losses."""
    original = GANLoss.discriminator_losses

    def discriminator_losses(
        self: GANLoss, discriminator: nn.Module, real: Tensor, fake: Tensor, step: int
    ) -> dict[str, Tensor]:
        return original(self, discriminator, fake, real, step)

    return mock.patch.object(GANLoss, "discriminator_losses", discriminator_losses)


def mirrored_content(method: type[Method]) -> Patch:
    """Compute the content losses against the mirror image of their target."""
    module = sys.modules[method.__module__]
    patches = contextlib.ExitStack()
    if hasattr(module, "l1"):
        l1 = module.l1
        patches.enter_context(mock.patch.object(module, "l1", lambda x, y: l1(x, y.flip(-1))))
    if hasattr(module, "layers_nce"):
        layers_nce = module.layers_nce

        def mirrored_nce(
            queries: Sequence[Tensor], keys: Sequence[Tensor], temperature: float
        ) -> Tensor:
            return layers_nce(queries, [key.flip(1) for key in keys], temperature)

        patches.enter_context(mock.patch.object(module, "layers_nce", mirrored_nce))
    return patches


def frozen_discriminators(method: type[Method]) -> Patch:
    """Skip every update of the discriminators."""
    real_updates = method.updates

    def updates(self: Method, batch: Batch, step: int) -> Iterator[Update]:
        for update in real_updates(self, batch, step):
            if not any("discriminator" in group for group in update.groups):
                yield update

    return mock.patch.object(method, "updates", updates)


def swapped_translators(_: type[Method]) -> Patch:
    """Exchange the two translators when the run is opened for the test."""

    def open_swapped(path: str) -> Run:
        run = open_run(path)
        (one, first), (other, second) = run.translators.items()
        first.source, second.source = second.source, first.source
        first.target, second.target = second.target, first.target
        return replace(run, translators={one: second, other: first})

    return mock.patch.object(known_truth, "open_run", open_swapped)


Mutation = tuple[Callable[[type[Method]], Patch], list[str]]


def mutations_of(name: str) -> dict[str, Mutation]:
    """Return mutation -> (patch, settings) for the method `name`; the first changes nothing."""
    mutations: dict[str, Mutation] = {"unmodified": (unmodified, [])}
    method = methods.find(name)
    if len(method(method.Config(), {"a": 3, "b": 3}).translators()) == 2:
        mutations["translators swapped at test"] = (swapped_translators, [])
    mutations |= {
        "no adversary": (unmodified, ["method.adversarial_weight=0"]),
        "labels swapped": (swapped_labels, []),
        "discriminators never step": (frozen_discriminators, []),
        "content loss on mirrored target": (mirrored_content, []),
    }
    if name in NO_CONTENT_LOSS:
        mutations["no content loss"] = (unmodified, NO_CONTENT_LOSS[name])
    return mutations


def main(arguments: list[str]) -> int:
    """Run every mutation, print a row for each, and return 1 if the gate gave a wrong result."""
    parser = argparse.ArgumentParser(prog="broken_methods.py", description=__doc__)
    parser.add_argument("method", choices=[*NO_CONTENT_LOSS, "cut", "dclgan"])
    parser.add_argument("--only", nargs="*", metavar="NAME", help="run these mutations only")
    parser.add_argument("--json", action="store_true")
    args, settings = parser.parse_known_args(arguments)
    mutations = mutations_of(args.method)
    gate_was_wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only or mutations:
            patch, extra_settings = mutations[name]
            # Swapping at test needs no new training: it reuses the finished unmodified run.
            run_folder = Path(folder) / ("unmodified" if patch is swapped_translators else name)
            with contextlib.redirect_stdout(sys.stderr), patch(methods.find(args.method)):
                scores = known_truth.known_truth(
                    args.method, 0, [*settings, *extra_settings], run_folder
                )
            psnrs = [float(scores[x]) for x in scores if x.startswith("psnr_")]
            passed = min(psnrs) >= GATE
            gate_was_wrong |= passed != (name == "unmodified")
            row = {"mutation": name, "gate": "passed" if passed else "failed", **scores}
            columns = "".join(f" {psnr:8.2f}" for psnr in psnrs)
            print(
                json.dumps(row) if args.json else f"{name:<33}{columns} dB  gate {row['gate']}",
                flush=True,
            )
    return gate_was_wrong


if __name__ == "__main__":
    run_command(main)
