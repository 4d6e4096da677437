"""Generate two domains of little scenes whose true translation is known.

    python -m data.scenes season|paint|zebra|tints OUT [train=300] [test=48] [size=64] [seed=0]

Domain B is a function of the scene, but the training images of A and B show different scenes, so the
data is unpaired. The held-out images come in pairs of the same name: testB/0007.png is the truth
for testA/0007.png.

season  recolours everything (channels exchanged, a gamma on each): the sanity check, invertible.
paint   a deterministic painter (edge-preserving smoothing): many-to-one, only A to B has a truth.
tints   one of many tints over grey: many answers to one input, each with a style that is known.
zebra   stripes the ellipses and nothing else: a translator must tell objects from background.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.command import run_command
from common.command_line import parse_words
from common.errors import UserError
from common.user_paths import parse_path

TRAIN_A, TRAIN_B, HELD_OUT = 0, 1, 2  # which scenes: none stands in two sets
TINT = 3  # what a scene's tint is drawn from besides its key
SHADE = 0.25  # how much darker an object's one corner is than its middle
SHADES = {"zebra": 0.1}  # where the ring of an ellipse, not its shade, is what differs
PAIRS = {"paint": "forward", "tints": "none"}  # where not both ways have one truth


@dataclass(frozen=True)
class Scene:
    """A drawn scene: float RGB in 0 to 1 [size, size, 3], what stands where, and a tint."""

    pixels: np.ndarray
    depth: np.ndarray  # how deep inside an ellipse: 0 outside of all, rising to 1 at a centre
    objects: np.ndarray  # the number of the object that is seen, from 1; 0 is background
    tint: np.ndarray  # RGB, the brightest channel 1


def draw_scene(size: int, *key: int, shade: float = SHADE) -> Scene:
    """Draw the scene of this key: sky over ground, and one to three shaded ellipses and squares."""
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
        centre = random.uniform((0.15, 0.3), (0.85, 0.9))
        radius = random.uniform(0.1, 0.22, 2)
        u, v = (x - centre[0]) / radius[0], (y - centre[1]) / radius[1]
        distance = np.hypot(u, v) if ellipse else np.maximum(abs(u), abs(v))
        inside = distance < 1
        colour = random.uniform((0.65, 0.3, 0.2), (0.95, 0.65, 0.45))
        light = (1.0 - shade * (u + v) / 2)[..., None]
        pixels = np.where(inside[..., None], colour * light, pixels)
        depth = np.where(inside, (1 - distance) if ellipse else 0.0, depth)
        objects = np.where(inside, number + 1, objects)
    own = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*key, TINT))))
    tint = np.roll([1.0, own.uniform(0.15, 0.85), 0.15], own.integers(3))
    return Scene(pixels.clip(0, 1), depth, objects, tint)


def season(scene: Scene) -> np.ndarray:
    """Return the scene with its channels exchanged and a gamma on each: green summers turn blue."""
    return scene.pixels[..., [1, 2, 0]] ** np.array([1.8, 1.4, 0.7])


def paint(scene: Scene) -> np.ndarray:
    """Return the scene as OpenCV's stylization paints it."""
    import cv2  # only this domain needs it

    image = np.ascontiguousarray(to_uint8(scene.pixels)[..., ::-1])
    return cv2.stylization(image, sigma_s=30, sigma_r=0.3)[..., ::-1] / 255.0


def zebra(scene: Scene) -> np.ndarray:
    """Return the scene with dark rings in its ellipses, at equal depths from the edge."""
    rings = (scene.depth > 0) & (np.floor(scene.depth * 5) % 2 == 0)
    return np.where(rings[..., None], scene.pixels * 0.15, scene.pixels)


def tints(scene: Scene) -> np.ndarray:
    """Return the scene in shades of its tint, as a toned photograph."""
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


def generate(
    kind: str, out: Path, train: int = 300, test: int = 48, size: int = 64, seed: int = 0
) -> None:
    """Write `out`/trainA, trainB, testA, testB and dataset.json; nothing where it stands already.

    The same arguments write the same bytes. An `out` with other content raises UserError.
    """
    translate = TRANSLATIONS[kind]
    description = {
        "name": kind, "train": train, "test": test, "size": size, "seed": seed,
        "pairs": PAIRS.get(kind, "both"),
    }  # fmt: skip
    written = out / "dataset.json"
    if _read(written) == description:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and holds something else; name a new folder or remove it")
    try:
        _write(translate, out, description, (train, test, size, seed))
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from None


def _read(description: Path) -> object:
    try:
        return json.loads(description.read_text())
    except (OSError, ValueError):
        return None


def _write(
    translate: Callable[[Scene], np.ndarray],
    out: Path,
    description: dict[str, str | int],
    numbers: tuple[int, int, int, int],
) -> None:
    train, test, size, seed = numbers
    shade = SHADES.get(str(description["name"]), SHADE)
    building = out.with_name(out.name + ".partial")
    shutil.rmtree(building, ignore_errors=True)
    sets = (
        ("trainA", TRAIN_A, train, False), ("trainB", TRAIN_B, train, True),
        ("testA", HELD_OUT, test, False), ("testB", HELD_OUT, test, True),
    )  # fmt: skip
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
    """Generate the default set for a root of the form scenes/KIND that is not there yet."""
    path = parse_path(root, "data.root")
    if path.parent.name == "scenes" and path.name in TRANSLATIONS and not path.exists():
        print(f"{path}: generating scenes")
        generate(path.name, path)


def _gradient(
    t: np.ndarray, random: np.random.Generator, top: Sequence[float], bottom: Sequence[float]
) -> np.ndarray:
    start, end = (np.array(colour) + random.uniform(-0.03, 0.03, 3) for colour in (top, bottom))
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
    """Generate what the command line asks for."""
    parsed = parse_words(arguments, Options, str(__doc__))
    if parsed is None:
        return
    words, options = parsed
    if len(words) != 2 or words[0] not in TRANSLATIONS:
        raise UserError(
            "usage: python -m data.scenes season|paint|zebra|tints OUT [train=300] [size=64] ..."
        )
    for name, least in (("train", 1), ("test", 1), ("size", 16), ("seed", 0)):
        if (value := getattr(options, name)) < least:
            raise UserError(
                f"{name} must be a whole number, at least {least}, got {value}", option=name
            )
    out = parse_path(words[1])
    generate(words[0], out, options.train, options.test, options.size, options.seed)
    print(
        f"{out}: {options.train} + {options.train} images to train, {options.test} pairs held out"
    )


if __name__ == "__main__":
    run_command(main)
