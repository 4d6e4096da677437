"""The images of a run: the files it learns from, how they are held, and the few that are always shown."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.command import print_line
from common.progress import with_progress
from data.bad_images import drop_bad_images
from data.config import DataConfig
from data.doctor.quick_check import quick_check
from data.folders import evenly_spaced, find_split
from data.image_store.device import DeviceSamples
from data.image_store.files import FileStore
from data.image_store.open_store import open_image_store
from data.samples import UnpairedSamples, load_held_out
from engine.hardware.memory import free_memory

SKIPPED = {"train": "skipped.json", "validation": "skipped_validation.json"}  # in the run's folder


def usable_files(
    config: DataConfig, split: Literal["train", "validation"], run: Path
) -> dict[str, list[Path]]:
    """Return domain -> the files of a split; of those to learn from with advice, before a run begins."""
    files = find_split(config, split)
    if config.bad_images == "skip":
        files = _without_bad(files, config, run / SKIPPED[split])
    if split == "train" and not (run / "checkpoints").exists():
        for advice in quick_check(files, config):
            print_line(f"note: {advice}")
    return files


def _without_bad(
    files: dict[str, list[Path]], config: DataConfig, record: Path
) -> dict[str, list[Path]]:
    """Return the files that can be used; which cannot is found out once, and kept in the run's folder."""
    store, channels = FileStore(files, config), config.channels_of()
    kept = drop_bad_images(
        files, lambda domain, file: store.read(file, channels[domain]), record,
        lambda found, count: with_progress(found, count, "reading every image once"),
    )  # fmt: skip
    if lost := sum(map(len, files.values())) - sum(map(len, kept.values())):
        print_line(f"left out: {lost} image{'s' if lost > 1 else ''}, see {record}")
    return kept


def make_samples(
    files: Mapping[str, Sequence[Path]], config: DataConfig, seed: int, device: torch.device,
    sharing: int = 1,
) -> UnpairedSamples:  # fmt: skip
    """Return the training samples, decoded now where the options say so.

    What is kept of decoded images takes a quarter of the free memory at most, for all `sharing`
    processes of this machine together.
    """

    def decoding_progress(paths: Iterable[Path]) -> Iterable[Path]:
        images = list(paths)
        return with_progress(images, len(images), "decoding")

    if config.device_cache:
        return DeviceSamples(files, config, seed, device, decoding_progress)
    room = min(config.memory_cache_gb, free_memory(torch.device("cpu")) / 4e9)
    pixels = sum(len(paths) * config.channels_of()[domain] for domain, paths in files.items())
    needed = pixels * config.load_size**2 / 1e9 if config.fit == "stretch" else math.inf
    if room < min(config.memory_cache_gb, needed) and not config.disk_cache:
        print_line(
            f"note: {room:.2g} GB of decoded images are kept, a quarter of the free memory; the rest is "
            "decoded each time (data.disk_cache=FOLDER keeps all on disk)"
        )
    store = open_image_store(
        files, replace(config, memory_cache_gb=room / sharing), decoding_progress
    )
    return UnpairedSamples(files, config, seed, store)


def fixed_images(
    files: Mapping[str, Sequence[Path]], config: DataConfig, count: int
) -> dict[str, list[Tensor]]:
    """Return `count` images of each domain, evenly spread, [1, C, crop, crop] in [-1, 1]."""
    channels = config.channels_of()
    return {
        domain: list(
            load_held_out(evenly_spaced(paths, count), config, channels[domain], cropped=True)
        )
        for domain, paths in files.items()
    }
