"""Options that suit a set of images, each with its reason in one line."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.doctor.layout import ImageSet
from data.doctor.set_statistics import ColorGap, ImageStatistics

# Load and crop size, and the short side that three in four images should have for them. The first is
# the paper's (Zhu et al. 2017, Sec. 7.1); the others keep its ratio.
SIZES = ((286, 256, 200), (143, 128, 100), (72, 64, 0))
SQUARE = 1.25  # an aspect that may be stretched without being seen
ALIKE, FAR = 20.0, 40.0  # levels between the colours of two domains
FEW = 200  # images of a domain below which variations help
LARGE = 0.5  # megapixels from which decoding again and again costs more than a step's other work


@dataclass(frozen=True)
class Recommendation:
    """An option as it is written on the command line; `default` says that it holds without."""

    option: str
    reason: str
    default: bool = False


def recommend(
    figures: Mapping[str, ImageStatistics], gaps: Sequence[ColorGap], name: str
) -> list[Recommendation]:
    """Return what to train with, for domain -> the numbers of its training images.

    `name` is the data set's, for the folder of the cache. Domains without images are left out.
    """
    known = {domain: each for domain, each in figures.items() if each.images}
    if not known:
        return []
    load, crop, size_reason = _size(known)
    channels = [each.channels for each in known.values()]
    return [
        _fit(known),
        Recommendation(f"data.load_size={load}", size_reason, load == 286),
        Recommendation(f"data.crop_size={crop}", "the square that is trained on, 9/10 of the load size",
                       crop == 256),
        _channels(known, channels),
        *([_identity(gaps, channels)] if len(known) > 1 else []),
        *_augmentation(known, channels),
        _cache(known, load, max(channels), name),
    ]  # fmt: skip


def command_of(
    recommendations: Sequence[Recommendation], root: Path | None, sets: Sequence[ImageSet]
) -> str:
    """Return the command that trains with what is recommended; "" where there is one domain only."""
    domains = list(dict.fromkeys(each.domain for each in sets if each.split == "train"))
    if len(domains) < 2:
        return ""
    names = {domain: _sound(domain) for domain in domains}
    words = ["python", "train.py", "cyclegan"]
    inside = root is not None and all(root in each.folder.parents for each in sets)
    if inside and list(names) == list(names.values()):
        words.append(f"data.root={root}")
    else:
        words += [
            f"data.{each.split}.{names[each.domain]}={each.folder}"
            for each in sets
            if each.split and each.domain in names
        ]
    if list(names.values()) != ["a", "b"]:
        words.append(f"data.domains=[{','.join(names.values())}]")
    words += [each.option for each in recommendations if not each.default]
    return shlex.join(words)


def crop_for(figures: Mapping[str, ImageStatistics]) -> int:
    """Return the crop size that suits these images."""
    return _size({domain: each for domain, each in figures.items() if each.images})[1]


def _sound(name: str) -> str:
    """Return a domain's folder name as data.domains takes it."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name.replace("_to_", "-")).strip("-") or "images"


def _size(known: Mapping[str, ImageStatistics]) -> tuple[int, int, str]:
    base = min((each.quantile(0.25) for each in known.values()), default=0.0)
    load, crop, _ = next(sizes for sizes in SIZES if base >= sizes[2])
    reason = f"three in four images have short sides of {base:.0f} pixels or more"
    if base >= 572:
        reason += "; 572 and a crop of 512 show finer detail at four times the cost"
    return load, crop, reason


def _fit(known: Mapping[str, ImageStatistics]) -> Recommendation:
    stretched = np.concatenate([
        np.maximum(each.aspects, 1 / np.asarray(each.aspects)) for each in known.values()
    ])  # fmt: skip
    typical = float(np.quantile(stretched, 0.9))
    if typical <= SQUARE:
        return Recommendation(
            "data.fit=stretch", f"nine in ten images are nearly square (sides up to 1:{typical:.2f})", True
        )  # fmt: skip
    return Recommendation(
        "data.fit=short_side",
        f"sides go up to 1:{typical:.2f}; a stretch to a square would squeeze what is shown",
    )


def _channels(known: Mapping[str, ImageStatistics], channels: list[int]) -> Recommendation:
    shown = channels[:1] if len(set(channels)) == 1 else channels
    option = f"data.channels=[{','.join(map(str, shown))}]"
    if set(channels) == {3}:
        grey = sum(round(each.grey * each.images) for each in known.values())
        extra = f"; {grey} of those to train with have none" if grey else ""
        return Recommendation(option, f"the images have colour{extra}", True)
    held = (f"{domain} has {each.channels}" for domain, each in known.items())
    return Recommendation(option, f"what the images hold: {', '.join(held)}")


def _identity(gaps: Sequence[ColorGap], channels: list[int]) -> Recommendation:
    largest = max((gap.largest for gap in gaps), default=0.0)
    if len(set(channels)) > 1:
        return Recommendation(
            "method.identity_weight=0", "the identity loss needs domains of equal channels"
        )
    if largest >= FAR:
        return Recommendation(
            "method.identity_weight=0.1",
            f"the domains' colours are {largest:.0f} levels apart; the identity loss resists such a change",
        )
    words = "nearly agree" if largest < ALIKE else "differ, but not by far"
    return Recommendation(
        "method.identity_weight=0.5",
        f"the domains' colours {words} (at most {largest:.0f} levels); the identity loss keeps them",
        True,
    )


def _augmentation(
    known: Mapping[str, ImageStatistics], channels: list[int]
) -> list[Recommendation]:
    least = min(each.images for each in known.values())
    flip = Recommendation(
        "data.flip=true", "seen in a mirror, images count twice; false where sides matter (text, maps)",
        True,
    )  # fmt: skip
    if least < FEW and set(channels) <= {1, 3}:
        jitter = Recommendation(
            "data.color_jitter=0.1", f"{least} images are few; slight variations stand in for more"
        )
    else:
        jitter = Recommendation(
            "data.color_jitter=0.0",
            f"{least} images or more a domain need no invented colours",
            True,
        )
    return [flip, jitter]


def _cache(
    known: Mapping[str, ImageStatistics], load: int, channels: int, name: str
) -> Recommendation:
    pixels = max(each.megapixels for each in known.values())
    images = sum(each.images for each in known.values())
    if pixels < LARGE:
        return Recommendation(
            "data.disk_cache=", f"{pixels:.2g} megapixels are read quickly enough", True
        )
    size = images * load * load * channels / 1e9
    return Recommendation(
        f"data.disk_cache=cache/{_sound(name)}",
        f"images of {pixels:.2g} megapixels are decoded once, into {size:.2g} GB or a little more",
    )
