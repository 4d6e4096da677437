"""Train a method on scenes where only some objects change, and measure whether it tells them apart.

    python benchmarks/background_preservation.py METHOD [--seed N] [--json] [option=value ...]

In `zebra`, ellipses get rings while squares, sky and ground stay. PSNR says little here: a ring that
is out of phase costs more than none. So: selectivity is the mean deviation of luminance in an ellipse,
as a multiple of that in a square (copied input: 1); background error is the mean absolute change, 0 to
1, of all that is no ellipse. Seconds are those of the processor, over all threads.
"""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.known_truth import SMALL, answer, recipe, trained
from common.command import run_command
from data.scenes import HELD_OUT, SHADES, Scene, draw_scene, generate, to_uint8, zebra
from inference.picture_translator import PictureTranslator

# What learnt it. Targets that stay as they are teach what not to texture; a map of full size leads to
# where rings of one pixel are drawn; patches little larger than an object say where they belong.
RECIPE = [
    "gcgan", *SMALL, "duration=3000 steps", "decay_after=50%", "data.flip=true",
    "adam_betas=[0.5,0.99]", "method.geometry=none", "method.identity_weight=10", "method.pool_size=0",
    "method.generator.kind=norm_free_unet", "method.generator.init_type=kaiming",
    "method.generator.num_downs=4", "method.discriminator.channels=32", "method.discriminator.layers=2",
]  # fmt: skip
SIZE, SEED, SCENES = 64, 0, 48
SEEN = 20  # pixels of an object that is counted
LUMINANCE = np.array([0.299, 0.587, 0.114]) / 255  # Rec. 601, of 8 bits


def measured(translate: Callable[[np.ndarray, Scene], np.ndarray]) -> dict[str, float]:
    """Return selectivity and background error of uint8 pictures [H, W, 3] over the held-out scenes."""
    deviations: dict[bool, list[float]] = {True: [], False: []}
    errors = []
    for number in range(SCENES):
        scene = draw_scene(SIZE, SEED, HELD_OUT, number, shade=SHADES["zebra"])
        before = to_uint8(scene.pixels)
        after = translate(before, scene)
        luminance = after @ LUMINANCE
        for thing in range(1, scene.objects.max() + 1):
            place = scene.objects == thing
            if place.sum() >= SEEN:
                ellipse = bool((scene.depth[place] > 0).all())
                deviations[ellipse].append(float(luminance[place].std()))
        rest = scene.depth == 0
        errors.append(np.abs(after[rest] / 255 - before[rest] / 255).mean())
    ellipses, squares = float(np.mean(deviations[True])), float(np.mean(deviations[False]))
    return {"selectivity": ellipses / squares, "background": float(np.mean(errors))}


def selective(
    preset: str, seed: int, settings: list[str], folder: Path
) -> dict[str, float | int | str]:
    """Train a preset in `folder` as benchmarks/known_truth.py does, and measure its way from a to b.

    `zebra` is the recipe that learns it; `truth` and `input` are the bounds: the true translation, and none.
    """
    if preset in ("truth", "input"):
        bound = measured(lambda x, scene: to_uint8(zebra(scene)) if preset == "truth" else x)
        return {"method": preset, **bound}
    generate("zebra", folder / "zebra", size=SIZE, seed=SEED)
    words = [*(RECIPE if preset == "zebra" else recipe(preset)), f"seed={seed}", *settings]
    run, seconds = trained(words, folder / "zebra", folder / "run")
    translator = PictureTranslator(run.translators["a_to_b"], run.runtime)
    figures = measured(lambda pixels, _: translator(pixels))
    return {"method": preset, "seed": seed, "seconds": seconds, "steps": run.step, **figures}


def main(arguments: list[str]) -> None:
    """Run what the command line asks for."""
    names = "`zebra`, the recipe that learns it, or any preset; or `truth` and `input`, the bounds"
    answer(arguments, __doc__, names, selective)


if __name__ == "__main__":
    run_command(main)
