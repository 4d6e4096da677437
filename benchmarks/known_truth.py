"""Train a method on generated scenes whose true translation is known, and score it against the truth.

    python benchmarks/known_truth.py METHOD [--seed N] [--json] [option=value ...]

Unpaired training that can be scored without a download: `season` recolours every scene, the copied
input scores about 10 dB, a broken method less than 19, a working one 24 and more in both directions.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.command import run_command
from data.scenes import generate
from evaluation.evaluate import evaluate
from inference.open_run import Run, open_run
from models import methods
from options.config import TrainOptions
from options.introspection import option_fields
from options.load import train_options
from training.train import train

# How a preset is trained here, small enough for a few CPU minutes: where it has such options.
SMALL = [
    "duration=1000 steps", "batch_size=2", "learning_rate=0.0005", "ema_half_life=300",
    "data.load_size=64", "data.crop_size=64", "data.flip=false", "data.workers=0",
    "method.generator.channels=16", "method.generator.blocks=2", "method.discriminator.channels=16",
]  # fmt: skip
# One image a step: more steps in the same time. Without norms, a discriminator as narrow as this one
# begins with scores that hardly depend on the image, unless its weights are drawn for its width.
MULTISCALE = [
    "decay_after=50%", "batch_size=1",
    "method.discriminator.channels=32", "method.discriminator.init_type=kaiming",
]  # fmt: skip
# Encoders as narrow as these begin with nothing to tell patches by: CUT's own weights are too small.
CONTRASTIVE = [
    "decay_after=50%", "method.generator.init_type=normal", "method.discriminator.init_type=normal",
    "method.patches=64", "method.features=64",
]  # fmt: skip
# What else a preset needs to learn in that time.
TUNED: dict[str, list[str]] = {
    # Codes may be strong beside their noise, which has a deviation of 1: so more details survive. The
    # paper's shared layers, and discriminators that are not left at chance, keep seeds alike.
    "unit": [
        *MULTISCALE, "duration=1700 steps", "lr_multipliers.discriminators=2", "method.kl_weight=0.001",
        "method.cycle_kl_weight=0.001", "method.shared_blocks=1",
    ],
    "munit": [*MULTISCALE, "duration=1300 steps", "method.cycle_weight=10"],
    # One image is true: nothing rewards diversity, and the mapping may learn to give one style.
    "stargan_v2": [
        "duration=800 steps", "decay_after=50%", "learning_rate=0.001", "lr_multipliers.mapping=1", "weight_decay=0",
        "method.size=64", "method.own_domain=false", "method.diversity_weight=0",
        "method.cycle_weight=30", "method.penalty_every=4", "method.generator.blocks=1",
        "method.generator.layers=1", "method.generator.max_channels=32", "method.mapping.channels=64",
        "method.style_encoder.channels=8", "method.style_encoder.max_channels=64",
        "method.discriminator.channels=8", "method.discriminator.max_channels=64",
    ],
    # The identity loss asks of colours that both domains have to stay what the truth changes. No way back
    # asks for details: a U-Net's skips bring them.
    "gcgan": ["method.identity_weight=0", "method.generator.kind=unet", "method.generator.num_downs=3"],
    "cut": [*CONTRASTIVE, "method.nce_weight=4", "duration=1500 steps", "method.nce_identity=false"],
    # At its weight of 10 so small a generator never changes anything.
    "fastcut": [*CONTRASTIVE, "method.nce_weight=4", "duration=1500 steps"],
    "dclgan": [
        *CONTRASTIVE, "method.nce_weight=8", "duration=2000 steps", "method.identity_weight=0",
    ],
    "uvcgan_v2": [
        "decay_after=50%", "method.generator.levels=3", "method.generator.embed_dim=64",
        "method.generator.num_heads=4", "method.cycle_weight=10", "method.identity_weight=0",
        "method.penalty_weight=0.4", "method.penalty_every=4",
    ],
}  # fmt: skip


def recipe(preset: str) -> list[str]:
    """Return the words with which train.py trains a preset on the scenes; the demo is made for them."""
    if preset == "cyclegan":
        return ["demo"]
    options = train_options([preset])
    assert options is not None
    known = {field.name for field in option_fields(type(options), {"method": type(options.method)})}
    small = [setting for setting in SMALL if setting.partition("=")[0] in known]
    return [preset, *small, *TUNED.get(preset, [])]


def known_truth(
    method: str, seed: int, settings: list[str], folder: Path
) -> dict[str, float | int | str]:
    """Train `method` on `season` in `folder`; return what it took, and PSNR and SSIM by direction.

    Seconds are those of the processor, over all threads.
    """
    generate("season", folder / "season")
    words = [*recipe(method), f"seed={seed}", *settings]
    run, seconds = trained(words, folder / "season", folder / f"{method}-{seed}")
    figures = evaluate(run, run.options.data, report_images=1, checks=False).metrics()
    scores: dict[str, float | int | str] = {
        "method": method, "seed": seed, "parameters": parameters(run.options),
        "seconds": seconds, "steps": run.step,
    }  # fmt: skip
    for figure in ("psnr", "ssim"):
        scores |= {f"{figure}_{name}": row[f"truth_{figure}"] for name, row in figures.items()}
    return scores


def trained(words: Sequence[str], data: Path, folder: Path) -> tuple[Run, float]:
    """Train what the words say on `data` in `folder`; return the run, and the seconds of the processor."""
    options = train_options([
        *words, f"data.root={data}", f"run={folder}", "log.wandb=disabled", "log.previews=0",
        "validation_images=0", "checkpoint_every=100000",
    ])  # fmt: skip
    assert options is not None
    started = time.process_time()
    train(options)
    return open_run(options.run), time.process_time() - started


def parameters(options: TrainOptions) -> int:
    """Return how many numbers a method learns."""
    method = methods.build(options.method, options.data.channels_of())
    return sum(weight.numel() for weight in method.parameters())


def answer(
    arguments: list[str], description: str | None, methods: str,
    measure: Callable[[str, int, list[str], Path], Mapping[str, float | int | str]],
) -> None:  # fmt: skip
    """Print what `measure` says of the method, seed and options of a command line, in a folder of its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("method", help=methods)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one line of JSON only")
    known, settings = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        found = measure(known.method, known.seed, settings, Path(folder))
    rounded = {name: round(x, 4) if isinstance(x, float) else x for name, x in found.items()}
    if known.json:
        print(json.dumps(rounded))
    else:
        print("\n".join(f"{name:<16}{value}" for name, value in rounded.items()))


def main(arguments: list[str]) -> None:
    """Run what the command line asks for."""
    answer(arguments, __doc__, "a preset, such as cyclegan or cut", known_truth)


if __name__ == "__main__":
    run_command(main)
