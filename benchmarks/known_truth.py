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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.scenes import generate
from errors import UserError, run_command
from inference.evaluate import evaluate
from inference.run import open_run
from models import methods
from options.load import train_options
from train import train

# How each method is trained here, small enough for a few CPU minutes: a preset, and what differs from it.
SMALL = [
    "batch_size=2", "learning_rate=0.0005", "ema_half_life=300", "data.load_size=64",
    "data.crop_size=64", "data.flip=false", "data.workers=0", "method.generator.channels=16",
    "method.generator.blocks=2", "method.discriminator.channels=16",
]  # fmt: skip
RECIPES = {
    "cyclegan": ["demo"],
    "cut": ["cut", "duration=1000 steps", *SMALL],
    "fastcut": ["fastcut", "duration=1000 steps", *SMALL],
}


def known_truth(
    method: str, seed: int, settings: list[str], folder: Path
) -> dict[str, float | int | str]:
    """Train `method` on `season` in `folder`; return seconds, steps, and PSNR and SSIM by direction."""
    generate("season", folder / "season")
    fixed = [
        f"data.root={folder / 'season'}", f"run={folder / f'{method}-{seed}'}", f"seed={seed}",
        "log.wandb=disabled", "log.previews=0", "score_images=0", "checkpoint_every=100000",
    ]  # fmt: skip
    options = train_options([*RECIPES[method], *fixed, *settings])
    assert options is not None
    started = time.monotonic()
    train(options)
    seconds = time.monotonic() - started
    run = open_run(options.run)
    figures = evaluate(run, options.data, keep_rows=1).figures
    scores: dict[str, float | int | str] = {
        "method": method, "seed": seed, "seconds": round(seconds, 1), "steps": run.step,
    }  # fmt: skip
    for figure in ("psnr", "ssim"):
        scores |= {
            f"{figure}_{name}": round(row[f"truth_{figure}"], 4) for name, row in figures.items()
        }
    return scores


def main(arguments: list[str]) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="known_truth.py", description=__doc__)
    parser.add_argument("method", help="a recipe, such as cyclegan")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one line of JSON only")
    known, settings = parser.parse_known_args(arguments)
    if known.method not in RECIPES:
        raise UserError(f"no known-truth recipe for '{known.method}'; there are {', '.join(RECIPES)} "
                        f"(methods: {', '.join(methods.names())})")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        scores = known_truth(known.method, known.seed, settings, Path(folder))
    if known.json:
        print(json.dumps(scores))
    else:
        print("\n".join(f"{name:<14}{value}" for name, value in scores.items()))


if __name__ == "__main__":
    run_command(main)
