"""Break CycleGAN in six ways and show that the known-truth gate notices each.

    python benchmarks/mutations.py [--steps 1000] [--json] [NAME ...]

A gate that cannot fail proves nothing. Each mutation is applied to the method in memory, trained on
`season` as benchmarks/known_truth.py does, and scored. The gate is 22 dB to the truth in both
directions; exit code 1 if the sound method misses it or a broken one passes.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.known_truth import known_truth
from errors import run_command
from models.losses.adversarial import OBJECTIVES, Objective
from models.method import Turn
from models.methods import cyclegan

GATE = 22.0  # dB, in both directions
Patch = contextlib.AbstractContextManager


def sound() -> Patch:
    """Change nothing."""
    return contextlib.nullcontext()


def swapped_labels() -> Patch:
    """Teach the discriminators that fakes are real."""
    lsgan = OBJECTIVES["lsgan"]
    swapped = Objective(lsgan.generator, lambda real, fake: lsgan.discriminator(fake, real))
    return mock.patch.dict(OBJECTIVES, lsgan=swapped)


def wrong_real() -> Patch:
    """Compare restored images with the other domain's real ones."""
    real_turns = cyclegan.CycleGAN.turns

    def turns(self: cyclegan.CycleGAN, batch: dict, step: int) -> Iterator[Turn]:
        wrong = {id(batch[self.a]): batch[self.b], id(batch[self.b]): batch[self.a]}
        sound_l1 = cyclegan.l1
        with mock.patch.object(cyclegan, "l1", lambda x, y: sound_l1(x, wrong[id(y)])):
            yield from list_turns(real_turns(self, batch, step))

    return mock.patch.object(cyclegan.CycleGAN, "turns", turns)


def list_turns(turns: Iterator[Turn]) -> Iterator[Turn]:
    """Pass turns on one by one."""
    yield from turns


def idle_discriminators() -> Patch:
    """Never move the discriminators."""
    real_turns = cyclegan.CycleGAN.turns

    def turns(self: cyclegan.CycleGAN, batch: dict, step: int) -> Iterator[Turn]:
        return (turn for turn in real_turns(self, batch, step) if "generators" in turn.players)

    return mock.patch.object(cyclegan.CycleGAN, "turns", turns)


def swapped_at_test() -> Patch:
    """Hand out the translators under each other's names."""
    real_translators = cyclegan.CycleGAN.translators

    def translators(self: cyclegan.CycleGAN):
        self.to_a, self.to_b = self.to_b, self.to_a
        handed_out = real_translators(self)
        self.to_a, self.to_b = self.to_b, self.to_a
        return handed_out

    return mock.patch.object(cyclegan.CycleGAN, "translators", translators)


MUTATIONS: dict[str, tuple[Callable[[], Patch], list[str]]] = {
    "sound": (sound, []),
    "cycle weight 0": (sound, ["method.cycle_weight=0"]),
    "adversarial weight 0": (sound, ["method.adversarial_weight=0"]),
    "D labels swapped": (swapped_labels, []),
    "cycle against the wrong real": (wrong_real, []),
    "D never stepped": (idle_discriminators, []),
    "A and B swapped at test": (swapped_at_test, []),
}


def main(arguments: list[str]) -> int:
    """Run every mutation, print a row for each, and return 1 if the gate erred."""
    parser = argparse.ArgumentParser(prog="mutations.py", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MUTATIONS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--json", action="store_true")
    known = parser.parse_args(arguments)
    erred = 0
    for name in known.names or MUTATIONS:
        patch, settings = MUTATIONS[name]
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(sys.stderr),
            patch(),
        ):
            steps = [f"duration={known.steps} steps", f"runtime.threads={known.threads}"]
            scores = known_truth("cyclegan", 0, [*steps, *settings], Path(folder))
        worst = min(float(scores["psnr_a_to_b"]), float(scores["psnr_b_to_a"]))
        passed = worst >= GATE
        erred |= passed != (name == "sound")
        row = {"mutation": name, "gate": "passed" if passed else "failed", **scores}
        print(
            json.dumps(row)
            if known.json
            else f"{name:<30} {scores['psnr_a_to_b']:>8} {scores['psnr_b_to_a']:>8} dB  gate {row['gate']}",
            flush=True,
        )
    return erred


if __name__ == "__main__":
    run_command(main)
