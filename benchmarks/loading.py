"""Compare the image loading speed of one core with the reference's pipeline.

    python benchmarks/loading.py [--json] [--images 64] [--rounds 5] [--photos FOLDER]

The reference's pipeline is rebuilt from the libraries that it uses: PIL, torchvision's Resize to
286 (bicubic), RandomCrop to 256, RandomHorizontalFlip, ToTensor, Normalize. Our pipeline ends with
the uint8 tensor that is copied to the device and normalised there. `decoder` only decodes, with
Pillow (as we do) or with OpenCV: this bounds every pipeline that decodes. `no cache` is a first
pass over the images; `memory cache` is a later pass with the default data.memory_cache_gb; `ten
passes` are one first and nine later passes; `disk cache` is a pass with data.disk_cache. The
variants run in alternation, and the median is reported. Images are generated, or read from a folder
of JPEGs.
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

from common.run_main import run_command
from data.config import DataConfig
from data.samples import UnpairedSamples
from data.scenes import draw_scene, to_uint8

SIZES = {"256x256": (256, 256), "1024x768": (1024, 768)}


def write_photos(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Write JPEGs of size (width, height): scenes with fine noise, which compress like photos."""
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
    """Return a function that loads file number n as the reference does, to a tensor."""
    transform = transforms.Compose([
        transforms.Resize([286, 286], transforms.InterpolationMode.BICUBIC),
        transforms.RandomCrop(256),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ])  # fmt: skip

    def load(number: int) -> object:
        with Image.open(files[number]) as image:
            return transform(image.convert("RGB"))

    return load


def decoder(files: list[Path]) -> Callable[[int], object]:
    """Return a function that decodes file number n with Pillow and does nothing else."""

    def load(number: int) -> object:
        with Image.open(files[number]) as image:
            return np.asarray(image.convert("RGB"))

    return load


def opencv_decoder(files: list[Path]) -> Callable[[int], object]:
    """Return a function that decodes file number n with OpenCV, to equal pixels."""
    import cv2

    cv2.setNumThreads(0)
    return lambda number: cv2.imread(str(files[number]), cv2.IMREAD_COLOR_RGB)


def our_pipeline(files: list[Path], config: DataConfig) -> Callable[[int], object]:
    """Return a function that loads the sample at position n of one domain with our pipeline."""
    samples = UnpairedSamples({"a": files, "b": files}, config, 0)
    del samples.channels["b"]  # one image per sample, as in the reference
    return samples.__getitem__


def main(arguments: list[str]) -> None:
    """Parse the command line and run the benchmark."""
    parser = argparse.ArgumentParser(prog="loading.py", description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--photos", type=Path, help="a folder of JPEGs to read instead of generated images"
    )
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sources = {args.photos.name: None} if args.photos else SIZES
    for label, size in sources.items():
        with tempfile.TemporaryDirectory() as folder:
            if size is None:
                files = sorted(args.photos.glob("*.jpg"))[: args.images]
            else:
                files = write_photos(Path(folder), size, args.images)
            loaders = {
                "reference": reference_pipeline(files),
                "decoder": decoder(files),
                "decoder (OpenCV)": opencv_decoder(files),
                "no cache": our_pipeline(files, DataConfig(memory_cache_gb=0)),
                "memory cache": our_pipeline(files, DataConfig()),
                "disk cache": our_pipeline(files, DataConfig(disk_cache=f"{folder}/cache")),
            }
            rates: dict[str, list[float]] = {}
            for timed in range(args.rounds + 1):
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
            print(json.dumps(row) if args.json else text, flush=True)


if __name__ == "__main__":
    run_command(main)
