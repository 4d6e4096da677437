"""Check some image headers before a run, for problems that would cost hours of training."""

import os
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import UserError
from data.config import DataConfig
from data.doctor.findings import FINDING_KINDS, MIN_IMAGES, RECOMMENDED_IMAGES
from data.doctor.image_headers import read_header
from data.folders import evenly_spaced, folder_of, links_out_of, scan_files
from data.groups import SERIES, count_series, matches_any

MAX_FILES = 200  # of a domain
SECONDS = 0.8  # for all domains
STRIDE = 8  # every eighth file is read first, in case the time runs out
REPORTED = ("unreadable", "exif_turned", "alpha", "grey")  # names of findings


@dataclass
class _Sample:
    """The headers that were read from one domain."""

    files: int = 0
    oddities: Counter[str] = field(default_factory=Counter)  # name of a finding -> number of files
    sizes: list[tuple[int, int]] = field(default_factory=list)  # width and height

    @property
    def short_sides(self) -> list[int]:
        return [min(size) for size in self.sizes]


def quick_check(
    files_by_domain: Mapping[str, Sequence[Path]], config: DataConfig, seconds: float = SECONDS
) -> list[str]:
    """Return warnings about the training files, one per line; [] if there are none.

    Reads the headers of an evenly spaced sample: at most 200 files of a domain, and no more than
    `seconds` permit for all domains. Nothing is decoded, and a bad file does not raise an error.
    """
    start, seconds_each = time.monotonic(), seconds / max(len(files_by_domain), 1)
    samples = {
        domain: _sample(files, start + number * seconds_each)
        for number, (domain, files) in enumerate(files_by_domain.items(), 1)
    }
    channels = config.channels_of()
    lines = []
    for domain, sample in samples.items():
        count = len(files_by_domain[domain])
        if count < RECOMMENDED_IMAGES:
            images = "1 image is" if count == 1 else f"{count} images are"
            few = "far too few" if count < MIN_IMAGES else "few"
            lines.append(f"{domain}: {images} {few}")
        lines += _links(domain, config)
        lines += _ignored_files(folder_of(config, "train", domain), domain)
        lines += _oddities(domain, sample, channels.get(domain, 3))
        lines += _sizes(domain, sample, config)
        lines += _series(domain, files_by_domain[domain], config)
    lines += _size_differences(samples)
    return [*lines, f"more about the images: {_doctor_command(config)}"] if lines else []


def sample_headers(files: Sequence[Path], seconds: float = SECONDS / 2) -> list[tuple[int, int]]:
    """Return (width, height) of some files, from their headers; unreadable ones are left out."""
    return _sample(files, time.monotonic() + seconds).sizes


def _sample(files: Sequence[Path], deadline: float) -> _Sample:
    """Read headers until the deadline, but at least one."""
    chosen, sample = evenly_spaced(files, MAX_FILES) if files else [], _Sample()
    for file in [file for start in range(STRIDE) for file in chosen[start::STRIDE]]:
        if sample.files and time.monotonic() > deadline:
            break
        sample.files += 1
        try:
            header = read_header(file, fully=False)
        except Exception:  # the doctor, or training, reports what is wrong with the file
            sample.oddities["unreadable"] += 1
            continue
        sample.oddities.update(header.oddities.keys())
        sample.sizes.append((header.width, header.height))
    return sample


def _links(domain: str, config: DataConfig) -> list[str]:
    """Return a warning of links that lead out of a folder, above all to test images."""
    links = links_out_of(folder_of(config, "train", domain))
    if not links:
        return []
    count = "1 link leads" if len(links) == 1 else f"{len(links)} links lead"
    where = f"{domain}: {count} out of its folder, such as {links[0].name}"
    tests = []
    for each in config.domains:
        with suppress(UserError):
            tests.append(os.path.realpath(folder_of(config, "test", each)))
    targets = [os.path.realpath(link) for link in links]
    inside = [t for t in targets if any(f"{t}/".startswith(f"{test}/") for test in tests)]
    around = [t for t in targets if any(f"{test}/".startswith(f"{t}/") for test in tests)]
    return [where + ("; test images are among the training images" if inside or around else "")]


def _ignored_files(folder: Path, domain: str) -> list[str]:
    reasons = Counter(reason for _, reason in scan_files(folder) if reason)
    if not reasons:
        return []
    files = "1 file is ignored" if reasons.total() == 1 else f"{reasons.total()} files are ignored"
    most_common = ", ".join(reason for reason, _ in reasons.most_common(2))
    more = ", ..." if len(reasons) > 2 else ""
    return [f"{domain}: {files} ({most_common}{more})"]


def _oddities(domain: str, sample: _Sample, channels: int) -> list[str]:
    lines = []
    for name in REPORTED:
        count = sample.oddities[name]
        is_expected = (name == "alpha" and channels in (2, 4)) or (name == "grey" and channels < 3)
        if count and not is_expected:
            title = FINDING_KINDS[name].title
            lines.append(f"{domain}: {title} ({count} of {sample.files} sampled)")
    return lines


def _series(domain: str, files: Sequence[Path], config: DataConfig) -> list[str]:
    """Return advice where names look like slices or frames, and some of them would be held out."""
    if not config.validation:
        return []
    if config.group:
        if matches_any(files, folder_of(config, "train", domain), config.group):
            return []
        return [f"{domain}: data.group={config.group} matches none of the files, so it groups none"]
    if not (sources := count_series(files, folder_of(config, "train", domain))):
        return []
    return [
        f"{domain}: the names look like slices or frames of {sources} sources; data.group="
        f"'{SERIES}' keeps each on one side of data.validation"
    ]


def _sizes(domain: str, sample: _Sample, config: DataConfig) -> list[str]:
    sides, lines = sample.short_sides, []
    small = sum(side < config.crop_size for side in sides)
    if small:
        lines.append(
            f"{domain}: images smaller than data.crop_size={config.crop_size} "
            f"({small} of {len(sides)} sampled)"
        )
    if sides and np.quantile(sides, 0.95) > 4 * np.quantile(sides, 0.05):
        lines.append(f"{domain}: short sides range from {min(sides)} to {max(sides)} pixels")
    return lines


def _size_differences(samples: Mapping[str, _Sample]) -> list[str]:
    medians = {
        d: float(np.median(each.short_sides)) for d, each in samples.items() if each.short_sides
    }
    if not medians or max(medians.values()) <= 2 * min(medians.values()):
        return []
    sizes = ", ".join(f"{median:.0f} pixels in {domain}" for domain, median in medians.items())
    return [f"the domains differ in image size: the median short side is {sizes}"]


def _doctor_command(config: DataConfig) -> str:
    words = [config.root] if config.root else []
    for split in ("train", "test"):
        words += [f"data.{split}.{d}={folder}" for d, folder in getattr(config, split).items()]
    return shlex.join(["python", "-m", "data.doctor", *words])
