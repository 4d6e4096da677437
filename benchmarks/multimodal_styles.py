"""Train a method with styles on scenes of many tints, and measure whether its styles mean something.

    python benchmarks/multimodal_styles.py munit|stargan_v2 [--seed N] [--json] [option=value ...]

In `tints` a scene has one of many answers, each in a tint that is known. Printed are: diversity, the
mean distance of ten drawn styles of one input; style_followed, how often a translation is nearer in its
colours to the reference it took its style from than to another (chance 0.5); and content, the mean
correlation of luminance between an input and its ten translations (1: nothing but the tint changed).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from benchmarks.known_truth import answer, recipe, trained
from common.command import run_command
from common.errors import UserError
from data.reading import read_image
from data.tensors import normalize, to_tensor
from evaluation.style_metrics import STYLES, style_metrics
from inference.open_run import Run
from models.translator import StyledTranslator

# What differs from known_truth.py, where one answer is true and nothing rewards diversity.
STYLED = {
    "munit": ["method.cycle_weight=1"],
    "stargan_v2": [
        "lr_multipliers.mapping=0.1",
        "method.diversity_weight=1",
        "method.diversity_steps=800",
    ],
}
WEIGHTS = (0.299, 0.587, 0.114)  # of luminance, Rec. 601


def correlation(one: Tensor, other: Tensor) -> float:
    """Return the correlation of the luminance of two images [1, 3, H, W]."""
    weights = torch.tensor(WEIGHTS).view(3, 1, 1)
    pair = torch.stack([(image.cpu().float() * weights).sum(1).flatten() for image in (one, other)])
    return torch.corrcoef(pair)[0, 1].item()


def styled(
    preset: str, seed: int, settings: list[str], folder: Path
) -> dict[str, float | int | str]:
    """Train a preset on tints in `folder`, and measure its way from grey to a tint."""
    if preset not in STYLED:
        raise UserError(f"{preset}: tints are for methods with styles: {' and '.join(STYLED)}")
    root = folder / "scenes" / "tints"
    words = [*recipe(preset), *STYLED[preset], f"seed={seed}", *settings]
    run, seconds = trained(words, root, folder / "run")
    return {
        "method": preset,
        "seed": seed,
        "seconds": seconds,
        "steps": run.step,
        **measured(run, root),
    }


@torch.no_grad()
def measured(run: Run, root: Path) -> dict[str, float]:
    """Return what the styles of a_to_b are worth on the held-out scenes below `root`."""
    translator = run.translators["a_to_b"]
    assert isinstance(translator, StyledTranslator)
    sources, references = images_in(root / "testA"), images_in(root / "testB")
    figures = style_metrics(translator, sources, references, run.runtime)
    styles = [translator.sample_style(1, seed=number) for number in range(STYLES)]
    agreement = [
        correlation(source, translator(source, style)) for source in sources for style in styles
    ]
    return figures | {"content": float(np.mean(agreement))}


def images_in(folder: Path) -> list[Tensor]:
    """Return the images of a folder, each [1, C, H, W] in [-1, 1]."""
    return [normalize(to_tensor(read_image(file))[None]) for file in sorted(folder.iterdir())]


def main(arguments: list[str]) -> None:
    """Run what the command line asks for."""
    answer(arguments, __doc__, "munit or stargan_v2", styled)


if __name__ == "__main__":
    run_command(main)
