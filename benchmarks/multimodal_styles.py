"""Measure diversity, style accuracy and content preservation of a multimodal method.

    python benchmarks/multimodal_styles.py munit|stargan_v2 [--seed N] [--json] [option=value ...]

The benchmark trains on the scenes `tints`, where one input has many valid translations, each in a
known tint. It prints three metrics: diversity, the mean distance between translations of one input
with ten sampled styles; style_followed, the share of translations whose colours are closer to their
own style reference than to another one (chance: 0.5); and content, the mean correlation of
luminance between an input and its ten translations (1: only the tint changed).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from benchmarks.known_truth import print_measurement, recipe, train_run
from common.errors import UserError
from common.run_main import run_command
from data.reading import read_image
from data.tensors import normalize, to_tensor
from evaluation.style_metrics import STYLES, style_metrics
from inference.open_run import Run
from models.translator import StyledTranslator

# Changes to the settings of known_truth.py, where each input has one true translation.
STYLE_SETTINGS = {
    "munit": ["method.cycle_weight=1"],
    "stargan_v2": [
        "lr_multipliers.mapping=0.1",
        "method.diversity_weight=1",
        "method.diversity_steps=800",
    ],
}
LUMINANCE = (0.299, 0.587, 0.114)  # Rec. 601


def correlation(one: Tensor, other: Tensor) -> float:
    """Return the correlation of the luminance of two images [1, 3, H, W]."""
    weights = torch.tensor(LUMINANCE).view(3, 1, 1)
    pair = torch.stack([(image.cpu().float() * weights).sum(1).flatten() for image in (one, other)])
    return torch.corrcoef(pair)[0, 1].item()


def train_and_measure(
    preset: str, seed: int, settings: list[str], folder: Path
) -> dict[str, float | int | str]:
    """Train a preset on `tints` in `folder`, and measure its translation from grey to a tint."""
    if preset not in STYLE_SETTINGS:
        raise UserError(
            f"method {preset} has no styles; choose {' or '.join(STYLE_SETTINGS)}", option="method"
        )
    root = folder / "scenes" / "tints"
    words = [*recipe(preset), *STYLE_SETTINGS[preset], f"seed={seed}", *settings]
    run, seconds = train_run(words, root, folder / "run")
    return {
        "method": preset,
        "seed": seed,
        "seconds": seconds,
        "steps": run.step,
        **measure_styles(run, root),
    }


@torch.no_grad()
def measure_styles(run: Run, root: Path) -> dict[str, float]:
    """Return the style metrics of a_to_b on the held-out scenes in `root`."""
    translator = run.translators["a_to_b"]
    assert isinstance(translator, StyledTranslator)
    sources, references = load_images(root / "testA"), load_images(root / "testB")
    metrics = style_metrics(translator, sources, references, run.runtime)
    styles = [translator.sample_style(1, seed=number) for number in range(STYLES)]
    correlations = [
        correlation(source, translator(source, style)) for source in sources for style in styles
    ]
    return metrics | {"content": float(np.mean(correlations))}


def load_images(folder: Path) -> list[Tensor]:
    """Return all images in a folder, each [1, C, H, W] in [-1, 1]."""
    return [normalize(to_tensor(read_image(file))[None]) for file in sorted(folder.iterdir())]


def main(arguments: list[str]) -> None:
    """Parse the command line and run the benchmark."""
    print_measurement(arguments, __doc__, "munit or stargan_v2", train_and_measure)


if __name__ == "__main__":
    run_command(main)
