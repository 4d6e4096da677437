"""Generate two domains of small drawn scenes with a known ground-truth translation.

    python -m data.scenes season|paint|zebra|tints OUT [train=300] [test=48] [size=64] [seed=0]

Domain B is a function of the scene, but the training images of A and B show different scenes, so
the data is unpaired. The held-out images are paired by name: testB/0007.png is the ground truth of
testA/0007.png.

season  recolors everything (channels exchanged, a gamma on each): a sanity check, invertible.
paint   deterministic, edge-preserving smoothing: many-to-one, ground truth from A to B only.
tints   one of many tints over grey: one-to-many, each output with a known style.
zebra   dark stripes on the ellipses only: a translator must separate objects from background.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.command_line import parse_words
from common.errors import UserError
from common.files import folder_beside, read_json
from common.run_main import run_command
from common.user_paths import parse_path

TRAIN_A, TRAIN_B, HELD_OUT = 0, 1, 2  # part of a scene's random key: the sets share no scene
TINT = 3  # added to a scene's key to draw its tint
SHADE = 0.25  # how much darker one corner of an object is than its center
SHADES = {"zebra": 0.1}  # weaker shading, so that the domains differ by the rings of the ellipses
PAIRS = {"paint": "forward", "tints": "none"}  # where ground truth is missing in a direction


@dataclass(frozen=True)
class Scene:
    """A drawn scene: its pixels, the maps of its objects [size, size], and a tint."""

    pixels: np.ndarray  # RGB in 0 to 1, [size, size, 3]
    depth: np.ndarray  # 0 outside of all ellipses, rising to 1 at the center of an ellipse
    objects: np.ndarray  # number of the visible object, from 1; 0 is background
    tint: np.ndarray  # RGB; the brightest channel is 1


def draw_scene(size: int, *key: int, shade: float = SHADE) -> Scene:
    """Draw the scene of a random key: sky, ground, and one to three shaded ellipses and squares."""
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
    y, x = np.mgrid[0:size, 0:size] / (size - 1)
    horizon = random.uniform(0.4, 0.6)
    sky = _gradient(y / horizon, random, (0.45, 0.65, 0.95), (0.85, 0.9, 1.0))
    ground = _gradient((y - horizon) / (1 - horizon), random, (0.35, 0.55, 0.2), (0.55, 0.4, 0.15))
    pixels = np.where((y < horizon)[..., None], sky, ground)
    pixels += random.normal(0, 0.008, pixels.shape)
    depth = np.zeros((size, size))
    objects = np.zeros((size, size), int)
    for number in range(random.integers(1, 4)):
        ellipse = random.random() < 0.5
        center = random.uniform((0.15, 0.3), (0.85, 0.9))
        radius = random.uniform(0.1, 0.22, 2)
        u, v = (x - center[0]) / radius[0], (y - center[1]) / radius[1]
        distance = np.hypot(u, v) if ellipse else np.maximum(abs(u), abs(v))
        inside = distance < 1
        color = random.uniform((0.65, 0.3, 0.2), (0.95, 0.65, 0.45))
        light = (1.0 - shade * (u + v) / 2)[..., None]
        pixels = np.where(inside[..., None], color * light, pixels)
        depth = np.where(inside, (1 - distance) if ellipse else 0.0, depth)
        objects = np.where(inside, number + 1, objects)
    tint_random = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*key, TINT))))
    tint = np.roll([1.0, tint_random.uniform(0.15, 0.85), 0.15], tint_random.integers(3))
    return Scene(pixels.clip(0, 1), depth, objects, tint)


def season(scene: Scene) -> np.ndarray:
    """Return the scene with its channels exchanged and a gamma on each: green becomes blue."""
    return scene.pixels[..., [1, 2, 0]] ** np.array([1.8, 1.4, 0.7])


def paint(scene: Scene) -> np.ndarray:
    """Return the scene filtered by OpenCV's stylization."""
    import cv2  # needed by this function only

    image = np.ascontiguousarray(to_uint8(scene.pixels)[..., ::-1])
    return cv2.stylization(image, sigma_s=30, sigma_r=0.3)[..., ::-1] / 255.0


def zebra(scene: Scene) -> np.ndarray:
    """Return the scene with concentric dark rings in its ellipses."""
    rings = (scene.depth > 0) & (np.floor(scene.depth * 5) % 2 == 0)
    return np.where(rings[..., None], scene.pixels * 0.15, scene.pixels)


def tints(scene: Scene) -> np.ndarray:
    """Return the scene in shades of its tint, like a toned photograph."""
    return (scene.pixels @ np.array([0.299, 0.587, 0.114]))[..., None] * scene.tint


TRANSLATIONS: dict[str, Callable[[Scene], np.ndarray]] = {
    "season": season,
    "paint": paint,
    "zebra": zebra,
    "tints": tints,
}


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Round float pixels in 0 to 1 to uint8."""
    return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)


BOUNDS = {"train": (1, 10**6), "test": (1, 10**6), "size": (16, 4096), "seed": (0, 2**32)}


def generate(
    kind: str, out: Path, train: int = 300, test: int = 48, size: int = 64, seed: int = 0
) -> None:
    """Write `out`/trainA, trainB, testA, testB and dataset.json, unless they are there already.

    Equal arguments write equal bytes. UserError if `out` has other content or cannot be written.
    """
    translate = TRANSLATIONS[kind]
    description = {
        "name": kind, "train": train, "test": test, "size": size, "seed": seed,
        "pairs": PAIRS.get(kind, "both"),
    }  # fmt: skip
    if _read_json(out / "dataset.json") == description:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out} exists and has other content; name a new folder or remove it", path=out
        )
    try:
        _write(translate, out, description, (train, test, size, seed))
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written: {error.strerror}; name another folder", path=out
        ) from None


def _read_json(path: Path) -> object:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _write(
    translate: Callable[[Scene], np.ndarray],
    out: Path,
    description: dict[str, str | int],
    numbers: tuple[int, int, int, int],
) -> None:
    """Write all files into a folder next to `out`, then rename it: `out` is never incomplete."""
    train, test, size, seed = numbers
    shade = SHADES.get(str(description["name"]), SHADE)
    sets = (
        ("trainA", TRAIN_A, train, False), ("trainB", TRAIN_B, train, True),
        ("testA", HELD_OUT, test, False), ("testB", HELD_OUT, test, True),
    )  # fmt: skip
    with folder_beside(out) as building:
        for folder, scenes, count, translated in sets:
            (building / folder).mkdir(parents=True)
            for number in range(count):
                scene = draw_scene(size, seed, scenes, number, shade=shade)
                pixels = translate(scene) if translated else scene.pixels
                Image.fromarray(to_uint8(pixels)).save(building / folder / f"{number:04d}.png")
        (building / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")
        if out.exists():
            out.rmdir()  # an empty folder
        building.rename(out)


def provide(root: str) -> None:
    """Generate the default data set for a data.root of the form scenes/KIND that does not exist."""
    path = parse_path(root, "data.root")
    if path.parent.name == "scenes" and path.name in TRANSLATIONS and not path.exists():
        print(f"{path}: generating scenes")
        generate(path.name, path)


def _gradient(
    t: np.ndarray, random: np.random.Generator, top: Sequence[float], bottom: Sequence[float]
) -> np.ndarray:
    start, end = (np.array(color) + random.uniform(-0.03, 0.03, 3) for color in (top, bottom))
    t = t.clip(0, 1)[..., None]
    return start * (1 - t) + end * t


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    train: int = 300
    test: int = 48
    size: int = 64
    seed: int = 0


def main(arguments: list[str]) -> None:
    """Generate the data set that the command line describes."""
    parsed = parse_words(arguments, Options, str(__doc__))
    if parsed is None:
        return
    words, options = parsed
    if len(words) != 2 or words[0] not in TRANSLATIONS:
        raise UserError(
            "usage: python -m data.scenes season|paint|zebra|tints OUT [train=300] [size=64] ..."
        )
    for name, (least, most) in BOUNDS.items():
        if not least <= (value := getattr(options, name)) <= most:
            raise UserError(
                f"{name} must be a whole number from {least} to {most}, got {value}", option=name
            )
    out = parse_path(words[1])
    generate(words[0], out, options.train, options.test, options.size, options.seed)
    print(
        f"{out}: {options.train} + {options.train} training images, {options.test} held-out pairs"
    )


if __name__ == "__main__":
    run_command(main)
