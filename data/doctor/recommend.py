"""Recommend training options that suit a set of images, each with its reason."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.doctor.folder_layout import ImageSet, has_training_layout
from data.doctor.set_statistics import ColorGap, ImageStatistics
from data.groups import SERIES, count_series

# (load size, crop size, minimum short side of three in four images). The first sizes are those of
# the paper (Zhu et al. 2017, Sec. 7.1); the others keep its ratio.
SIZES = ((286, 256, 200), (143, 128, 100), (72, 64, 0))
MAX_STRETCH = 1.25  # aspect ratio up to which stretching to a square is not visible
SMALL_GAP, LARGE_GAP = 20.0, 40.0  # levels between the colors of two domains
HELD_OUT = 0.1  # of the training images
MIN_IMAGES_TO_SPLIT = 10  # of a domain
FEW_IMAGES = 200  # per domain; color jitter helps below
LARGE_IMAGE = 0.5  # megapixels from which decoding costs more than the other work of a step


@dataclass(frozen=True)
class Recommendation:
    """A recommended value of an option, with its reason."""

    option: str  # as written on the command line: name=value
    reason: str
    default: bool = False  # whether this is the default value


def recommend(
    statistics: Mapping[str, ImageStatistics], gaps: Sequence[ColorGap], name: str
) -> list[Recommendation]:
    """Return the recommended options, from domain -> statistics of its training images.

    `name` is the name of the data set, for the folder of the cache. Domains without images are
    ignored.
    """
    known = {domain: each for domain, each in statistics.items() if each.images}
    if not known:
        return []
    load, crop, size_reason = _size(known)
    channels = [each.channels for each in known.values()]
    return [
        _fit(known),
        Recommendation(f"data.load_size={load}", size_reason, load == 286),
        Recommendation(
            f"data.crop_size={crop}", "side of training crops, 9/10 of the load size", crop == 256
        ),
        _channels(known, channels),
        *([_identity(gaps, channels)] if len(known) > 1 else []),
        *_augmentation(known, channels),
        _cache(known, load, max(channels), name),
    ]  # fmt: skip


def command_of(
    recommendations: Sequence[Recommendation], root: Path | None, sets: Sequence[ImageSet]
) -> str:
    """Return the command that trains with the recommended options; "" for a single domain."""
    domains = list(dict.fromkeys(each.domain for each in sets if each.split == "train"))
    if len(domains) < 2:
        return ""
    names = {domain: valid_name(domain) for domain in domains}
    words = ["python", "train.py", "cyclegan"]
    if root is not None and has_training_layout(root, sets) and list(names) == list(names.values()):
        words.append(f"data.root={root}")
    else:
        words += [
            f"data.{each.split}.{names[each.domain]}={each.folder}"
            for each in sets
            if each.split and each.domain in names
        ]
    if list(names.values()) != ["a", "b"]:
        words.append(f"data.domains=[{','.join(names.values())}]")
    words += [advice.option for advice in recommendations if not advice.default]
    name = root.resolve().name if root is not None else "-".join(names.values())
    words.append(f"run=runs/{valid_name(name)}")
    return shlex.join(words)


def validation_options(sets: Sequence[ImageSet]) -> list[Recommendation]:
    """Return how to hold out training images, where there are no test images."""
    training = [each for each in sets if each.split == "train"]
    has_test = any(each.split == "test" and each.files for each in sets)
    if has_test or not training or min(len(each.files) for each in training) < MIN_IMAGES_TO_SPLIT:
        return []
    advice = [
        Recommendation(f"data.validation={HELD_OUT}", "holds out a tenth: there are no test images")
    ]
    if any(count_series(each.files, each.folder) for each in training):
        reason = "keeps the slices or frames of one source on one side"
        advice.append(Recommendation(f"data.group={SERIES}", reason))
    return advice


def crop_for(statistics: Mapping[str, ImageStatistics]) -> int:
    """Return the recommended crop size, in pixels."""
    return _size({domain: each for domain, each in statistics.items() if each.images})[1]


def valid_name(name: str) -> str:
    """Return the name of a folder, changed to one that data.domains accepts."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name.replace("_to_", "-")).strip("-") or "images"


def _size(known: Mapping[str, ImageStatistics]) -> tuple[int, int, str]:
    short_side = min((each.short_side_quantile(0.25) for each in known.values()), default=0.0)
    load, crop, _ = next(sizes for sizes in SIZES if short_side >= sizes[2])
    reason = f"three in four images have a short side of {short_side:.0f} pixels or more"
    if short_side >= 572:
        reason += "; 572 with a crop of 512 gives finer detail at four times the cost"
    return load, crop, reason


def _fit(known: Mapping[str, ImageStatistics]) -> Recommendation:
    ratios = np.concatenate([
        np.maximum(each.aspects, 1 / np.asarray(each.aspects)) for each in known.values()
    ])  # fmt: skip
    ratio = float(np.quantile(ratios, 0.9))
    if ratio <= MAX_STRETCH:
        return Recommendation(
            "data.fit=stretch",
            f"nine in ten images are nearly square (longer side at most {ratio:.2f} of the shorter)",
            True,
        )
    return Recommendation(
        "data.fit=short_side",
        f"one image in ten is 1:{ratio:.2f} or longer; a stretch would distort it",
    )


def _channels(known: Mapping[str, ImageStatistics], channels: list[int]) -> Recommendation:
    values = channels[:1] if len(set(channels)) == 1 else channels
    option = f"data.channels=[{','.join(map(str, values))}]"
    if set(channels) == {3}:
        grey = sum(round(each.grey * each.images) for each in known.values())
        exceptions = f", except for {grey} of the training images" if grey else ""
        return Recommendation(option, f"the images have colour{exceptions}", True)
    counts = (f"{domain} has {each.channels}" for domain, each in known.items())
    return Recommendation(option, f"channels of the images: {', '.join(counts)}")


def _identity(gaps: Sequence[ColorGap], channels: list[int]) -> Recommendation:
    largest = max((gap.largest for gap in gaps), default=0.0)
    if len(set(channels)) > 1:
        return Recommendation(
            "method.identity_weight=0", "the identity loss needs equal channels in all domains"
        )
    if largest >= LARGE_GAP:
        return Recommendation(
            "method.identity_weight=0.1",
            f"the domains' colours differ by {largest:.0f} levels; "
            "a strong identity loss resists this change",
        )
    words = (
        f"nearly agree (at most {largest:.0f} levels); the identity loss preserves them"
        if largest < SMALL_GAP
        else f"differ by {largest:.0f} levels, which this weight of the identity loss allows"
    )
    return Recommendation("method.identity_weight=0.5", f"the domains' colours {words}", True)


def _augmentation(
    known: Mapping[str, ImageStatistics], channels: list[int]
) -> list[Recommendation]:
    fewest = min(each.images for each in known.values())
    flip = Recommendation(
        "data.flip=true",
        "mirrored images double the set; use false if left and right matter (text, maps)",
        True,
    )
    if not set(channels) <= {1, 3}:
        reason = "colours can be varied in grey and RGB images only"
        return [flip, Recommendation("data.color_jitter=0.0", reason, True)]
    if fewest < FEW_IMAGES:
        reason = f"{fewest} images are few; slight colour changes make up for more images"
        return [flip, Recommendation("data.color_jitter=0.1", reason)]
    reason = f"every domain has {fewest} images or more; colour changes are not needed"
    return [flip, Recommendation("data.color_jitter=0.0", reason, True)]


def _cache(
    known: Mapping[str, ImageStatistics], load: int, channels: int, name: str
) -> Recommendation:
    pixels = max(each.megapixels for each in known.values())
    images = sum(each.images for each in known.values())
    if pixels < LARGE_IMAGE:
        return Recommendation(
            "data.disk_cache=",
            f"images of {pixels:.2g} megapixels are decoded quickly enough",
            True,
        )
    size = images * load * load * channels / 1e9
    return Recommendation(
        f"data.disk_cache=cache/{valid_name(name)}",
        f"large images ({pixels:.2g} megapixels) are decoded only once, into about {size:.2g} GB",
    )
