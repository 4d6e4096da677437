"""Time one core from image files to augmented tensors, beside the reference's pipeline.

    python benchmarks/loading.py [--json] [--images 64] [--rounds 5] [--photos FOLDER]

The reference's pipeline is restated with the same libraries it uses: PIL, torchvision's Resize to 286
(bicubic), RandomCrop to 256, RandomHorizontalFlip, ToTensor, Normalize. Ours ends in the uint8 tensor
that travels to the device, which normalises it. `decoder` only decodes, by Pillow as we do or by
OpenCV: no pipeline that does is faster. `decoding` is a first pass; `kept` a later one, as training has
them by itself (data.memory_cache_gb); `ten passes` are both, from an empty start; `cached` is any pass with
data.disk_cache. Variants take turns; medians. Images are generated, or the JPEGs of a folder.
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from common.command import run_command
from data.config import DataConfig
from data.samples import UnpairedSamples
from data.scenes import draw_scene, to_uint8

SIZES = {"256x256": (256, 256), "1024x768": (1024, 768)}


def write_photos(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Write JPEGs of (width, height): scenes with fine noise, which compress as photos do."""
    files = []
    for number in range(count):
        random = np.random.default_rng(number)
        scene = Image.fromarray(to_uint8(draw_scene(256, 0, number).pixels)).resize(
            size, Image.Resampling.BICUBIC
        )
        noise = random.normal(0, 6, (size[1], size[0], 1))
        pixels = np.clip(np.asarray(scene, float) + noise, 0, 255).astype(np.uint8)
        files.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=90)
    return files


def reference_pipeline(files: list[Path]) -> Callable[[int], object]:
    """Return the reference's way from file number n to a tensor."""
    transform = transforms.Compose([
        transforms.Resize([286, 286], transforms.InterpolationMode.BICUBIC), transforms.RandomCrop(256),
        transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3),
    ])  # fmt: skip

    def load(number: int) -> object:
        with Image.open(files[number]) as image:
            return transform(image.convert("RGB"))

    return load


def decoder(files: list[Path]) -> Callable[[int], object]:
    """Return the way from file number n to the pixels of the whole image, and no further."""

    def load(number: int) -> object:
        with Image.open(files[number]) as image:
            return np.asarray(image.convert("RGB"))

    return load


def opencv_decoder(files: list[Path]) -> Callable[[int], object]:
    """Return the same by OpenCV, whose pixels are equal."""
    import cv2

    cv2.setNumThreads(0)
    return lambda number: cv2.imread(str(files[number]), cv2.IMREAD_COLOR_RGB)


def our_pipeline(files: list[Path], config: DataConfig) -> Callable[[int], object]:
    """Return our way from position n to a sample of one domain."""
    samples = UnpairedSamples({"a": files, "b": files}, config, 0)
    del samples.channels["b"]  # one image a sample, as the reference's
    return samples.__getitem__


def main(arguments: list[str]) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="loading.py", description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs to read instead")
    known = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sources = {known.photos.name: None} if known.photos else SIZES
    for label, size in sources.items():
        with tempfile.TemporaryDirectory() as folder:
            if size is None:
                files = sorted(known.photos.glob("*.jpg"))[: known.images]
            else:
                files = write_photos(Path(folder), size, known.images)
            loaders = {
                "reference": reference_pipeline(files),
                "decoder": decoder(files),
                "decoder (OpenCV)": opencv_decoder(files),
                "decoding": our_pipeline(files, DataConfig(memory_cache_gb=0)),
                "kept": our_pipeline(files, DataConfig()),
                "cached": our_pipeline(files, DataConfig(disk_cache=f"{folder}/cache")),
            }
            rates: dict[str, list[float]] = {}
            for timed in range(known.rounds + 1):
                fresh = {"ten passes": our_pipeline(files, DataConfig())}
                for name, load in {**loaders, **fresh}.items():
                    positions = range(len(files) * (10 if name in fresh else 1))
                    started = time.perf_counter()
                    for _ in map(load, positions):
                        pass
                    if timed:  # the first round warms up
                        rate = len(positions) / (time.perf_counter() - started)
                        rates.setdefault(name, []).append(rate)
        medians = {name: statistics.median(values) for name, values in rates.items()}
        for name, rate in medians.items():
            ratio = rate / medians["reference"]
            row = {
                "source": label,
                "pipeline": name,
                "images_per_second": round(rate, 1),
                "ratio": round(ratio, 2),
            }
            text = functools.reduce(lambda line, value: f"{line}{value!s:<18}", row.values(), "")
            print(json.dumps(row) if known.json else text, flush=True)


if __name__ == "__main__":
    run_command(main)
