"""Break a method in several ways and show that the known-truth gate notices each.

    python benchmarks/broken_methods.py METHOD [--only NAME ...] [--json] [option=value ...]

A gate that cannot fail proves nothing. Each mutation is applied to the method in memory, trained on
`season` as benchmarks/known_truth.py does, and scored. The gate is 22 dB to the truth in every
direction; exit code 1 if the sound method misses it or a broken one passes.
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
from common.command import run_command
from inference.open_run import Run, open_run
from models import methods
from models.gan_loss import GANLoss
from models.method import Batch, Method, Update

GATE = 22.0  # dB, in every direction
Patch = contextlib.AbstractContextManager[Any]
# What keeps the content, by method; contrastive weights cannot be 0.
CONTENT = {
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
    """Teach the discriminators that fakes are real."""
    told_apart = GANLoss.discriminator_losses

    def discriminator(
        self: GANLoss, discriminator: nn.Module, real: Tensor, fake: Tensor, step: int
    ) -> dict[str, Tensor]:
        return told_apart(self, discriminator, fake, real, step)

    return mock.patch.object(GANLoss, "discriminator", discriminator)


def mirrored_content(method: type[Method]) -> Patch:
    """Compare what should keep an image's content with its mirror image."""
    module = sys.modules[method.__module__]
    patches = contextlib.ExitStack()
    if hasattr(module, "l1"):
        l1 = module.l1
        patches.enter_context(mock.patch.object(module, "l1", lambda x, y: l1(x, y.flip(-1))))
    if hasattr(module, "layers_nce"):
        layers_nce = module.layers_nce

        def wrong(queries: Sequence[Tensor], keys: Sequence[Tensor], temperature: float) -> Tensor:
            return layers_nce(queries, [key.flip(1) for key in keys], temperature)

        patches.enter_context(mock.patch.object(module, "layers_nce", wrong))
    return patches


def idle_discriminators(method: type[Method]) -> Patch:
    """Never move the discriminators."""
    real_updates = method.updates

    def updates(self: Method, batch: Batch, step: int) -> Iterator[Update]:
        for update in real_updates(self, batch, step):
            if not any("discriminator" in player for player in update.groups):
                yield update

    return mock.patch.object(method, "updates", updates)


def swapped_at_test(_: type[Method]) -> Patch:
    """Test the two translators under each other's names."""

    def swapped(path: str) -> Run:
        run = open_run(path)
        (one, first), (other, second) = run.translators.items()
        first.source, second.source = second.source, first.source
        first.target, second.target = second.target, first.target
        return replace(run, translators={one: second, other: first})

    return mock.patch.object(known_truth, "open_run", swapped)


Mutation = tuple[Callable[[type[Method]], Patch], list[str]]


def mutations_of(name: str) -> dict[str, Mutation]:
    """Return mutation -> what it patches and sets, for the method `name`; the first changes nothing."""
    found: dict[str, Mutation] = {"sound": (unmodified, [])}
    method = methods.find(name)
    if len(method(method.Config(), {"a": 3, "b": 3}).translators()) == 2:
        found["translators swapped at test"] = (swapped_at_test, [])
    found |= {
        "no adversary": (unmodified, ["method.adversarial_weight=0"]),
        "labels swapped": (swapped_labels, []),
        "discriminators never step": (idle_discriminators, []),
        "content of the mirror image": (mirrored_content, []),
    }
    if name in CONTENT:
        found["content not kept"] = (unmodified, CONTENT[name])
    return found


def main(arguments: list[str]) -> int:
    """Run every mutation, print a row for each, and return 1 if the gate erred."""
    parser = argparse.ArgumentParser(prog="mutations.py", description=__doc__)
    parser.add_argument("method", choices=[*CONTENT, "cut", "dclgan"])
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these mutations")
    parser.add_argument("--json", action="store_true")
    known, settings = parser.parse_known_args(arguments)
    mutations = mutations_of(known.method)
    erred = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in known.only or mutations:
            patch, broken = mutations[name]
            # Swapping at test needs no training of its own: the sound run is found finished.
            where = Path(folder) / ("sound" if patch is swapped_at_test else name)
            with contextlib.redirect_stdout(sys.stderr), patch(methods.find(known.method)):
                scores = known_truth.known_truth(known.method, 0, [*settings, *broken], where)
            reached = [float(scores[x]) for x in scores if x.startswith("psnr_")]
            passed = min(reached) >= GATE
            erred |= passed != (name == "sound")
            row = {"mutation": name, "gate": "passed" if passed else "failed", **scores}
            columns = "".join(f" {psnr:8.2f}" for psnr in reached)
            print(
                json.dumps(row) if known.json else f"{name:<30}{columns} dB  gate {row['gate']}",
                flush=True,
            )
    return erred


if __name__ == "__main__":
    run_command(main)
