"""A look at some headers before a run, for surprises that would cost hours."""

import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.config import DataConfig
from data.doctor.findings import FEW, KINDS, MOST_FEW
from data.doctor.headers import read_header
from data.folders import evenly_spaced, folder_of, scan_files

LOOKED_AT = 200  # files of a domain
SECONDS = 0.8  # for all of them
STRIDE = 8  # an even part is seen first, in case the time runs out
SURPRISES = ("exif_turned", "alpha", "deep", "grey")


@dataclass
class _Sample:
    """What the headers of one domain said."""

    looked_at: int = 0
    oddities: Counter[str] = field(default_factory=Counter)
    short_sides: list[int] = field(default_factory=list)


def quick_check(
    files_by_domain: Mapping[str, Sequence[Path]], config: DataConfig, seconds: float = SECONDS
) -> list[str]:
    """Return lines of advice on the training files, from the headers of an even sample; [] where all is well.

    At most 200 files of a domain, and no more than the time allows. Nothing is decoded and nothing raises.
    """
    until = time.monotonic() + seconds
    samples = {
        domain: _sample(files, until - (len(files_by_domain) - number - 1) * seconds / len(files_by_domain))
        for number, (domain, files) in enumerate(files_by_domain.items())
    }  # fmt: skip
    channels = config.channels_of()
    lines = []
    for domain, sample in samples.items():
        count = len(files_by_domain[domain])
        if count < FEW:
            lines.append(
                f"{domain}: {count} images are {'far too ' if count < MOST_FEW else ''}few"
            )
        lines += _passed_over(folder_of(config, "train", domain), domain)
        lines += _surprises(domain, sample, channels.get(domain, 3))
        lines += _sizes(domain, sample, config)
    lines += _apart(samples)
    return [f"{line}; see: {_command(config)}" for line in lines]


def _sample(files: Sequence[Path], until: float) -> _Sample:
    chosen, sample = evenly_spaced(files, LOOKED_AT) if files else [], _Sample()
    for file in [file for start in range(STRIDE) for file in chosen[start::STRIDE]]:
        if sample.looked_at and time.monotonic() > until:
            break
        sample.looked_at += 1
        try:
            header = read_header(file, fully=False)
        except Exception:  # whatever is wrong with a file, the doctor and training say it in words
            sample.oddities["unreadable"] += 1
            continue
        sample.oddities.update(header.oddities.keys())
        sample.short_sides.append(min(header.width, header.height))
    return sample


def _passed_over(folder: Path, domain: str) -> list[str]:
    reasons = Counter(reason for _, reason in scan_files(folder) if reason)
    if not reasons:
        return []
    shown = ", ".join(reason for reason, _ in reasons.most_common(2))
    more = ", ..." if len(reasons) > 2 else ""
    return [f"{domain}: {reasons.total()} files passed over ({shown}{more})"]


def _surprises(domain: str, sample: _Sample, channels: int) -> list[str]:
    lines = []
    for name in ("unreadable", *SURPRISES):
        count = sample.oddities[name]
        kept = (name == "alpha" and channels in (2, 4)) or (name == "grey" and channels < 3)
        if count and not kept:
            lines.append(f"{domain}: {count} of {sample.looked_at} sampled {KINDS[name][1]}")
    return lines


def _sizes(domain: str, sample: _Sample, config: DataConfig) -> list[str]:
    sides, lines = sample.short_sides, []
    small = sum(side < config.crop_size for side in sides)
    if small:
        lines.append(
            f"{domain}: {small} of {len(sides)} sampled smaller than data.crop_size={config.crop_size}"
        )
    if sides and np.quantile(sides, 0.95) > 4 * np.quantile(sides, 0.05):
        lines.append(f"{domain}: short sides go from {min(sides)} to {max(sides)} pixels")
    return lines


def _apart(samples: Mapping[str, _Sample]) -> list[str]:
    middles = {
        d: float(np.median(each.short_sides)) for d, each in samples.items() if each.short_sides
    }
    if not middles or max(middles.values()) <= 2 * min(middles.values()):
        return []
    sizes = ", ".join(f"{middle:.0f} in {domain}" for domain, middle in middles.items())
    return [f"the domains differ in size: the middle short side is {sizes} pixels"]


def _command(config: DataConfig) -> str:
    words = [config.root] if config.root else []
    for split in ("train", "test"):
        words += [f"data.{split}.{d}={folder}" for d, folder in getattr(config, split).items()]
    return shlex.join(["python", "-m", "data.doctor", *words])
