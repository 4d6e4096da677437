"""Select a run's images: usable files, training samples, and fixed images for previews."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.errors import UserError
from common.progress import with_progress
from common.run_main import print_line
from data.bad_images import drop_bad_images
from data.config import DataConfig
from data.doctor.quick_check import quick_check
from data.folders import evenly_spaced, find_split, held_out_split
from data.image_store.device import DeviceSamples
from data.image_store.files import FileStore
from data.image_store.open_store import open_image_store
from data.samples import UnpairedSamples, load_held_out
from engine.hardware.memory import free_memory

SKIPPED = {"train": "skipped.json", "validation": "skipped_validation.json"}  # in the run's folder


def usable_files(
    config: DataConfig, split: Literal["train", "validation"], run: Path
) -> dict[str, list[Path]]:
    """Return domain -> files of a split; before a new run, print advice on the training files."""
    files = find_split(config, split)
    if config.bad_images == "skip":
        files = _readable_files(files, config, run / SKIPPED[split])
    if split == "train" and not (run / "checkpoints").exists():
        for advice in quick_check(files, config):
            print_line(f"note: {advice}")
        if not has_held_out_images(config):
            print_line(
                "note: no images are held out to evaluate the run on; data.validation=0.1 holds "
                "out a tenth"
            )
    return files


def has_held_out_images(config: DataConfig) -> bool:
    """Return whether test.py finds images for a run with these options."""
    try:
        return bool(held_out_split(config))
    except UserError:
        return False


def _readable_files(
    files: dict[str, list[Path]], config: DataConfig, record: Path
) -> dict[str, list[Path]]:
    """Return the readable files; the first call reads all, and lists the others in `record`."""
    store, formats = FileStore(files, config), config.formats()
    readable = drop_bad_images(
        files, lambda domain, file: store.read(file, formats[domain]), record,
        lambda items, count: with_progress(items, count, "reading every image once"),
    )  # fmt: skip
    if skipped := sum(map(len, files.values())) - sum(map(len, readable.values())):
        print_line(f"skipped {skipped} unreadable image{'s' if skipped > 1 else ''}, see {record}")
    return readable


def make_samples(
    files: Mapping[str, Sequence[Path]], config: DataConfig, seed: int, device: torch.device,
    local_processes: int = 1,
) -> UnpairedSamples:  # fmt: skip
    """Return the training samples; with a disk or device cache, images are decoded now.

    The memory cache takes at most a quarter of the free memory, for all `local_processes` of this
    machine together.
    """

    def decoding_progress(paths: Iterable[Path]) -> Iterable[Path]:
        images = list(paths)
        return with_progress(images, len(images), "decoding")

    if config.device_cache:
        return DeviceSamples(files, config, seed, device, decoding_progress)
    room = min(config.memory_cache_gb, free_memory(torch.device("cpu")) / 4e9)
    values = sum(len(paths) * config.formats()[d].bytes_per_pixel for d, paths in files.items())
    needed = values * config.load_size**2 / 1e9 if config.fit == "stretch" else math.inf
    if room < min(config.memory_cache_gb, needed) and not config.disk_cache:
        print_line(
            f"note: the memory cache holds {room:.2g} GB of decoded images, a quarter of the free "
            "memory; other images are decoded each time (data.disk_cache=FOLDER caches all on disk)"
        )
    store = open_image_store(
        files, replace(config, memory_cache_gb=room / local_processes), decoding_progress
    )
    return UnpairedSamples(files, config, seed, store)


def fixed_images(
    files: Mapping[str, Sequence[Path]], config: DataConfig, count: int
) -> dict[str, list[Tensor]]:
    """Return `count` images of each domain, evenly spread, [1, C, crop, crop] in [-1, 1]."""
    formats = config.formats()
    return {
        domain: list(
            load_held_out(evenly_spaced(paths, count), config, formats[domain], cropped=True)
        )
        for domain, paths in files.items()
    }
