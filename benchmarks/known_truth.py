"""Train a method on generated scenes and score it against their known true translation.

    python benchmarks/known_truth.py METHOD [--seed N] [--json] [option=value ...]

This scores unpaired training without a download. In the scenes `season`, domain B shows domain A in
other colours. The unchanged input has a PSNR of about 10 dB, a broken method less than 19 dB, and a
working method at least 24 dB in both directions.
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

from common.run_main import run_command
from data.scenes import generate
from evaluation.evaluate import evaluate
from inference.open_run import Run, open_run
from models import methods
from options.config import TrainOptions
from options.introspection import option_fields
from options.load import train_options
from training.train import train

# Settings that train a preset in a few CPU minutes; a preset takes those whose options it has.
SMALL = [
    "duration=1000 steps", "batch_size=2", "learning_rate=0.0005", "ema_half_life=300",
    "data.load_size=64", "data.crop_size=64", "data.flip=false", "data.workers=0",
    "method.generator.channels=16", "method.generator.blocks=2", "method.discriminator.channels=16",
]  # fmt: skip
# One image per step gives more steps in the same time. Without normalisation, the scores of so
# narrow a discriminator hardly depend on the image at first, unless the initialisation fits its
# width.
MULTISCALE = [
    "decay_after=50%", "batch_size=1",
    "method.discriminator.channels=32", "method.discriminator.init_type=kaiming",
]  # fmt: skip
# With CUT's initialisation, the weights of so narrow an encoder are too small to distinguish
# patches.
CONTRASTIVE = [
    "decay_after=50%", "method.generator.init_type=normal", "method.discriminator.init_type=normal",
    "method.patches=64", "method.features=64",
]  # fmt: skip
# Preset -> further settings that it needs to learn in that time.
TUNED: dict[str, list[str]] = {
    # A small KL weight lets the codes be large relative to their noise of standard deviation 1, so
    # more details survive. The paper's shared layers and faster discriminators, which then do
    # better than chance, make the results of different seeds similar.
    "unit": [
        *MULTISCALE, "duration=1700 steps", "lr_multipliers.discriminators=2",
        "method.kl_weight=0.001", "method.cycle_kl_weight=0.001", "method.shared_blocks=1",
    ],
    "munit": [*MULTISCALE, "duration=1300 steps", "method.cycle_weight=10"],
    # Each input has one true translation: no loss rewards diversity, and one style is enough.
    "stargan_v2": [
        "duration=800 steps", "decay_after=50%", "learning_rate=0.001", "lr_multipliers.mapping=1",
        "weight_decay=0", "method.size=64", "method.own_domain=false", "method.diversity_weight=0",
        "method.cycle_weight=30", "method.penalty_every=4", "method.generator.blocks=1",
        "method.generator.layers=1", "method.generator.max_channels=32",
        "method.mapping.channels=64", "method.style_encoder.channels=8",
        "method.style_encoder.max_channels=64",
        "method.discriminator.channels=8", "method.discriminator.max_channels=64",
    ],
    # The identity loss would keep colours that both domains share but the truth changes. Without an
    # inverse translator no loss asks for details: the skip connections of a U-Net preserve them.
    "gcgan": [
        "method.identity_weight=0", "method.generator.kind=unet", "method.generator.num_downs=3",
    ],
    "cut": [
        *CONTRASTIVE, "method.nce_weight=4", "duration=1500 steps", "method.nce_identity=false",
    ],
    # With the default nce_weight of 10, so small a generator never changes its input.
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
    """Return the arguments of train.py that train a preset on the scenes; cyclegan uses `demo`."""
    if preset == "cyclegan":
        return ["demo"]
    options = train_options([preset])
    assert options is not None
    option_names = {
        field.name for field in option_fields(type(options), {"method": type(options.method)})
    }
    small = [setting for setting in SMALL if setting.partition("=")[0] in option_names]
    return [preset, *small, *TUNED.get(preset, [])]


def known_truth(
    method: str, seed: int, settings: list[str], folder: Path
) -> dict[str, float | int | str]:
    """Train `method` on `season` in `folder`; return its cost, and PSNR and SSIM by direction.

    Seconds are processor time, summed over all threads.
    """
    generate("season", folder / "season")
    words = [*recipe(method), f"seed={seed}", *settings]
    run, seconds = train_run(words, folder / "season", folder / f"{method}-{seed}")
    metrics_by_direction = evaluate(run, run.options.data, report_images=1, checks=False).metrics()
    scores: dict[str, float | int | str] = {
        "method": method, "seed": seed, "parameters": count_parameters(run.options),
        "seconds": seconds, "steps": run.step,
    }  # fmt: skip
    for metric in ("psnr", "ssim"):
        scores |= {
            f"{metric}_{name}": row[f"truth_{metric}"] for name, row in metrics_by_direction.items()
        }
    return scores


def train_run(words: Sequence[str], data: Path, folder: Path) -> tuple[Run, float]:
    """Train with these arguments on `data` in `folder`; return the run and processor seconds."""
    options = train_options([
        *words, f"data.root={data}", f"run={folder}", "log.wandb=disabled", "log.previews=0",
        "validation_images=0", "checkpoint_every=100000",
    ])  # fmt: skip
    assert options is not None
    started = time.process_time()
    train(options)
    return open_run(options.run), time.process_time() - started


def count_parameters(options: TrainOptions) -> int:
    """Return the number of weights of a method."""
    method = methods.build(options.method, options.data.channels_of())
    return sum(weight.numel() for weight in method.parameters())


def print_measurement(
    arguments: list[str], description: str | None, methods: str,
    measure: Callable[[str, int, list[str], Path], Mapping[str, float | int | str]],
) -> None:  # fmt: skip
    """Call `measure` with the method, seed and options of a command line; print what it returns.

    `measure` works in a temporary folder. All other output goes to stderr.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("method", help=methods)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    args, settings = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        measurement = measure(args.method, args.seed, settings, Path(folder))
    rounded = {name: round(x, 4) if isinstance(x, float) else x for name, x in measurement.items()}
    if args.json:
        print(json.dumps(rounded))
    else:
        print("\n".join(f"{name:<16}{value}" for name, value in rounded.items()))


def main(arguments: list[str]) -> None:
    """Parse the command line and run the benchmark."""
    print_measurement(arguments, __doc__, "a preset, such as cyclegan or cut", known_truth)


if __name__ == "__main__":
    run_command(main)
