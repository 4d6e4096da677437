"""Choose the images of an evaluation: those that a run held out, and those it was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from common.errors import UserError
from common.run_main import print_line
from data.config import DataConfig
from data.fingerprint import recorded_name
from data.folders import files_in, find_split, folder_of
from engine.provenance_files import held_out_at_start, keep_held_out
from evaluation.skipped_files import SkippedFiles, read_images
from inference.open_run import Run

MAX_TRAINING_IMAGES = 2000  # of a domain, for the real baseline and for memorization
TrainingImages = Mapping[str, tuple[list[Path], list[Tensor]]]
"""Domain -> files and images [1, C, H, W] uint8."""


def recorded_validation(run: Run, data: DataConfig) -> dict[str, list[Path]]:
    """Return the images that the run held out when it began; a note counts those that are gone."""
    recorded = held_out_at_start(run.path, data)
    if recorded is None:  # not recorded: the options name them
        return find_split(replace(data, limit=run.options.data.limit), "validation")
    held_out = {}
    for domain, names in recorded.items():
        folder = folder_of(data, "train", domain)
        files = [file for file in files_in(folder) if recorded_name(file, folder) in names]
        if not files:
            raise UserError(
                f"none of the images of {domain} that the run held out is there any more; name "
                f"others with data.test.{domain}=FOLDER",
                option=f"data.test.{domain}",
            )
        if missing := len(names) - len(files):
            print_line(f"note: {missing} of {len(names)} held-out images of {domain} are gone")
        held_out[domain] = files[: data.limit or None]
    return held_out


def training_images(
    run: Run, data: DataConfig, test_files: Mapping[str, Sequence[Path]], skipped: SkippedFiles
) -> TrainingImages:
    """Return up to 2000 training images of each domain; empty if they are not on this machine."""
    try:
        split = find_split(data, "train")
        if data.validation:
            split, _ = keep_held_out(run.path, data, split, find_split(data, "validation"))
    except UserError:
        return {}
    training = {}
    for domain in test_files:
        files = split[domain][:MAX_TRAINING_IMAGES]
        description = f"training images of {domain}"
        training[domain] = read_images(files, data, domain, skipped, description)
    return training
