"""Measure whether a method changes only the objects that differ between the domains.

    python benchmarks/background_preservation.py METHOD [--seed N] [--json] [option=value ...]

In the scenes `zebra`, domain B has rings on the ellipses; squares, sky and ground are equal. PSNR
is misleading here, because a ring that is out of phase costs more than no ring. Two metrics replace
it. Selectivity is the mean standard deviation of luminance in an ellipse, divided by that in a
square (about 1 for a copied input). Background error is the mean absolute change, 0 to 1, of all
pixels outside the ellipses. Seconds are processor time, summed over all threads.
"""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.known_truth import SMALL, print_measurement, recipe, train_run
from common.run_main import run_command
from data.scenes import HELD_OUT, SHADES, Scene, draw_scene, generate, to_uint8, zebra
from inference.picture_translator import PictureTranslator

# The settings that learn `zebra`. The identity loss on targets teaches what must not get a texture,
# the U-Net's full-resolution skips allow rings of one pixel, and patches that are little larger
# than an object tell the discriminator which object has the rings.
RECIPE = [
    "gcgan", *SMALL, "duration=3000 steps", "decay_after=50%", "data.flip=true",
    "adam_betas=[0.5,0.99]", "method.geometry=none", "method.identity_weight=10",
    "method.pool_size=0", "method.generator.kind=norm_free_unet",
    "method.generator.init_type=kaiming", "method.generator.num_downs=4",
    "method.discriminator.channels=32", "method.discriminator.layers=2",
]  # fmt: skip
SIZE, SEED, SCENES = 64, 0, 48
MIN_PIXELS = 20  # visible pixels of an object; smaller ones are not measured
LUMINANCE = np.array([0.299, 0.587, 0.114]) / 255  # Rec. 601, for 8-bit values


def measure_translation(translate: Callable[[np.ndarray, Scene], np.ndarray]) -> dict[str, float]:
    """Return selectivity and background error over the held-out scenes.

    `translate` maps a uint8 image [H, W, 3] and its scene to a uint8 image of the same shape.
    """
    deviations: dict[bool, list[float]] = {True: [], False: []}
    errors = []
    for number in range(SCENES):
        scene = draw_scene(SIZE, SEED, HELD_OUT, number, shade=SHADES["zebra"])
        before = to_uint8(scene.pixels)
        after = translate(before, scene)
        luminance = after @ LUMINANCE
        for object_id in range(1, scene.objects.max() + 1):
            mask = scene.objects == object_id
            if mask.sum() >= MIN_PIXELS:
                is_ellipse = bool((scene.depth[mask] > 0).all())
                deviations[is_ellipse].append(float(luminance[mask].std()))
        background = scene.depth == 0
        errors.append(np.abs(after[background] / 255 - before[background] / 255).mean())
    ellipses, squares = float(np.mean(deviations[True])), float(np.mean(deviations[False]))
    return {"selectivity": ellipses / squares, "background": float(np.mean(errors))}


def train_and_measure(
    preset: str, seed: int, settings: list[str], folder: Path
) -> dict[str, float | int | str]:
    """Train a preset in `folder` as benchmarks/known_truth.py does, and measure its a_to_b.

    `zebra` trains the recipe above. `truth` and `input` train nothing and give the bounds: they
    measure the true translation and the unchanged input.
    """
    if preset in ("truth", "input"):
        bound = measure_translation(
            lambda x, scene: to_uint8(zebra(scene)) if preset == "truth" else x
        )
        return {"method": preset, **bound}
    generate("zebra", folder / "zebra", size=SIZE, seed=SEED)
    words = [*(RECIPE if preset == "zebra" else recipe(preset)), f"seed={seed}", *settings]
    run, seconds = train_run(words, folder / "zebra", folder / "run")
    translator = PictureTranslator(run.translators["a_to_b"], run.runtime)
    metrics = measure_translation(lambda pixels, _: translator(pixels))
    return {"method": preset, "seed": seed, "seconds": seconds, "steps": run.step, **metrics}


def main(arguments: list[str]) -> None:
    """Parse the command line and run the benchmark."""
    names = "`zebra` (the recipe that learns it), any preset, or the bounds `truth` and `input`"
    print_measurement(arguments, __doc__, names, train_and_measure)


if __name__ == "__main__":
    run_command(main)
