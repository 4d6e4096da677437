"""Choose the images of an evaluation: those that a run held out, and those it was trained on."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from common.errors import UserError
from common.run_main import print_line
from data.config import DataConfig
from data.fingerprint import recorded_name
from data.folders import files_in, find_split, folder_of
from data.reading import BadImage, image_size
from engine.provenance_files import held_out_at_start, keep_held_out
from inference.open_run import Run

MAX_TRAINING_IMAGES = 2000  # of a domain, for the real baseline and for memorization
HeldOut = Literal["test", "validation"]
Files = Mapping[str, Sequence[Path]]
"""Domain -> files."""


def held_out_files(run: Run, data: DataConfig, split: HeldOut) -> dict[str, list[Path]]:
    """Return domain -> its held-out images; domains without a test folder are left out.

    UserError where none has one.
    """
    if split == "validation":
        return _recorded_validation(run, data)
    found: dict[str, list[Path]] = {}
    missing: list[UserError] = []
    for domain in data.domains:
        try:
            folder = folder_of(data, "test", domain)
        except UserError as error:
            if domain in data.test:
                raise
            missing.append(error)
        else:
            found[domain] = files_in(folder, data.limit)
    if not found:
        raise missing[0]
    if not missing:
        return find_split(data, "test")  # checks that no two folders are the same
    return found


def _recorded_validation(run: Run, data: DataConfig) -> dict[str, list[Path]]:
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


def training_files(run: Run, data: DataConfig) -> dict[str, list[Path]]:
    """Return up to 2000 training images of each domain; empty if they are not on this machine."""
    try:
        split = find_split(data, "train")
        if data.validation:
            split, _ = keep_held_out(run.path, data, split, find_split(data, "validation"))
    except UserError:
        return {}
    return {domain: files[:MAX_TRAINING_IMAGES] for domain, files in split.items()}


def smallest_side(data: DataConfig, files: Iterable[Path]) -> int:
    """Return the pixels of the smallest side of all images as they are evaluated."""
    if data.fit != "crop":
        return data.crop_size
    sides = []
    for file in files:
        with suppress(BadImage, OSError):  # reported when the image is read
            sides.append(min(image_size(file)))
    return min(sides, default=data.crop_size)
