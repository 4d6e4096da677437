"""Turn the measurements of files and sets into findings for a person, with advice."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from data.doctor.examine_image import ExaminedFile
from data.doctor.folder_layout import ImageSet
from data.doctor.near_duplicates import groups_of, near_duplicates
from data.doctor.recommend import (
    HELD_OUT,
    Recommendation,
    command_of,
    crop_for,
    recommend,
    validation_options,
)
from data.doctor.set_statistics import ColorGap, ImageStatistics, color_gaps, image_statistics
from data.groups import choose_held_out

Level = Literal["error", "warning", "info"]
LEVEL_HEADINGS: dict[Level, str] = {
    "error": "Cannot be used", "warning": "Worth fixing", "info": "Good to know",
}  # fmt: skip
MIN_IMAGES, RECOMMENDED_IMAGES = 50, 300  # per domain: fewer are far too few, or few
MAX_SIZE_RATIO = 4  # of the 95 % to the 5 % quantile of the short sides in a set
LARGE_COLOR_GAP = 20  # levels between the means or standard deviations of two domains


class FindingKind(NamedTuple):
    """The texts of a kind of finding; `title` names the files or the problem, in lower case."""

    level: Level
    title: str
    advice: str


# Name of a finding -> its kind. Findings are reported in this order.
FINDING_KINDS = {
    "unreadable": FindingKind(
        "error", "unreadable files",
        "Remove or replace them: training stops at the first one.",
    ),
    "truncated": FindingKind(
        "error", "files that are cut off in the middle",
        "Copy or download them again, or remove them.",
    ),
    "too_large": FindingKind(
        "error", "files too large for the free memory, or with too much compressed data",
        "Save smaller versions of them.",
    ),
    "killed": FindingKind(
        "error", "files that crash or stall the program that reads them",
        "Remove them: they would end a training run.",
    ),
    "few": FindingKind(
        "warning", "too few images",
        "A network that is trained on few images learns them by heart. Add more.",
    ),
    "no_test": FindingKind(
        "warning", "no test images",
        "data.validation=0.1 holds out a tenth of the training images; or put others in a test folder.",
    ),
    "across_splits": FindingKind(
        "warning", "images that are both in training and in test",
        "Remove one of each: they make the test results look better than they are. Slices or "
        "frames of one source belong on one side; data.group keeps them together in "
        "data.validation.",
    ),
    "across_validation": FindingKind(
        "warning", "images that data.validation would put on both sides",
        "Scores on the held-out images would be too good. Keep slices or frames of one source "
        "together with data.group, and remove other copies.",
    ),
    "across_domains": FindingKind(
        "warning", "images that are in both domains",
        "Remove them: they teach the network to change nothing.",
    ),
    "constant": FindingKind(
        "warning", "images of almost a single colour",
        "Remove them: instance normalization divides by their tiny standard deviation, and the "
        "losses explode.",
    ),
    "small": FindingKind(
        "warning", "images much smaller than the training crops",
        "They have to be enlarged. Remove them, or use a smaller data.load_size and data.crop_size.",
    ),
    "in_split": FindingKind(
        "info", "images that are in a folder more than once",
        "Each copy counts as an image of its own in training.",
    ),
    "test_pairs": FindingKind(
        "info", "test images that show one scene in both domains",
        "If the second is the true translation of the first, evaluate with data.pairs=forward or "
        "both; otherwise remove one of each.",
    ),
    "narrow": FindingKind(
        "info", "images more than three times as long as wide",
        "Crop them, or use data.fit=short_side.",
    ),
    "sizes": FindingKind(
        "info", "very different image sizes",
        "What is a small detail in one image can fill another one.",
    ),
    "colours": FindingKind(
        "info", "the domains differ in colour",
        "The larger the difference, the smaller method.identity_weight should be.",
    ),
    "grey": FindingKind(
        "info", "images without colour",
        "Among colour images they teach the network to remove colour.",
    ),
    "deep": FindingKind(
        "info", "images with more than 8 bits per channel",
        "train.py measures the range of their values (data.range) and keeps all bits.",
    ),
    "alpha": FindingKind(
        "info", "images with transparency", "They are placed on a white background."
    ),
    "colour_space": FindingKind(
        "info", "images in CMYK, Lab or with a palette", "They are converted to RGB."
    ),
    "icc": FindingKind(
        "info", "images with a colour profile other than sRGB", "They are converted to sRGB."
    ),
    "exif_turned": FindingKind(
        "info", "images that are rotated or mirrored by EXIF",
        "They are read upright. Other programs may ignore EXIF.",
    ),
    "animated": FindingKind(
        "info", "files with several frames or pages", "Only the first one is used."
    ),
    "misnamed": FindingKind(
        "info", "files with the suffix of another format",
        "They are read by their content. Other programs may fail on them.",
    ),
    "metadata": FindingKind("info", "files with damaged metadata", "The metadata is ignored."),
    "passed_over": FindingKind(
        "info", "ignored files", "They are not images, or they cannot be opened."
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Occurrence:
    """One occurrence of a finding: in some files, or in a whole set (`files` is empty)."""

    files: list[Path]
    place: str  # labels of the sets, or names of the domains
    detail: str


@dataclass(frozen=True)
class Finding:
    """All occurrences of one kind of finding."""

    name: str
    occurrences: list[Occurrence]

    @property
    def level(self) -> Level:
        return FINDING_KINDS[self.name].level

    @property
    def title(self) -> str:
        return FINDING_KINDS[self.name].title

    @property
    def advice(self) -> str:
        return FINDING_KINDS[self.name].advice


@dataclass(frozen=True)
class Diagnosis:
    """Everything that the doctor reports; lists of files are in the order of the folders."""

    sets: list[ImageSet]
    examined: list[list[ExaminedFile]]  # of each set
    statistics: dict[str, ImageStatistics]  # by the label of a set
    gaps: list[ColorGap]
    findings: list[Finding]
    recommendations: list[Recommendation]
    command: str

    @property
    def usable(self) -> bool:
        return all(finding.level != "error" for finding in self.findings)


def diagnose(
    root: Path | None, sets: Sequence[ImageSet], examined: Sequence[Sequence[ExaminedFile]]
) -> Diagnosis:
    """Return the findings and recommendations for the examined files of each set."""
    files_by_set = [list(files) for files in examined]
    statistics = {
        each.label: image_statistics(files) for each, files in zip(sets, files_by_set, strict=True)
    }
    training = {each.domain: statistics[each.label] for each in sets if each.split != "test"}
    gaps = color_gaps(training) if training else []
    crop = crop_for(training)
    by_name: dict[str, list[Occurrence]] = {name: [] for name in FINDING_KINDS}
    sources = (
        _in_files(sets, files_by_set, crop),
        _copies(sets, files_by_set),
        _in_sets(sets, statistics, gaps),
    )
    for source in sources:
        for name, occurrence in source:
            by_name[name].append(occurrence)
    name = root.resolve().name if root else "-".join(training)
    recommendations = [*recommend(training, gaps, name), *validation_options(sets)]
    return Diagnosis(
        list(sets), files_by_set, statistics, gaps,
        [Finding(name, occurrences) for name, occurrences in by_name.items() if occurrences],
        recommendations, command_of(recommendations, root, sets),
    )  # fmt: skip


def _in_files(
    sets: Sequence[ImageSet], examined: Sequence[Sequence[ExaminedFile]], crop: int
) -> Iterator[tuple[str, Occurrence]]:
    """Yield the findings about single files."""
    for each, files in zip(sets, examined, strict=True):
        for path, reason in each.ignored:
            yield "passed_over", Occurrence([path], each.label, reason)
        for file in files:
            if file.fault:
                yield file.fault, Occurrence([file.path], each.label, file.reason)
                continue
            for name, detail in file.oddities.items():
                yield name, Occurrence([file.path], each.label, detail)
            if file.header and min(file.header.width, file.header.height) < crop / 2:
                size = f"{file.header.width}x{file.header.height}"
                yield "small", Occurrence([file.path], each.label, f"{size}, for a crop of {crop}")


def _copies(
    sets: Sequence[ImageSet], examined: Sequence[Sequence[ExaminedFile]]
) -> Iterator[tuple[str, Occurrence]]:
    """Yield each group of equal images once: across splits, else across domains, else in a set."""
    files = [(each, file) for each, group in zip(sets, examined, strict=True) for file in group]
    files = [(each, file) for each, file in files if file.luminance is not None]
    first_of: dict[str, int] = {}  # digest -> number of the first file
    exact: list[tuple[int, int]] = []
    for number, (_, file) in enumerate(files):
        first = first_of.setdefault(file.digest, number)
        if first != number:
            exact.append((first, number))
    distinct = list(first_of.values())
    luminances = [light for n in distinct if (light := files[n][1].luminance) is not None]
    near = [(distinct[i], distinct[j]) for i, j in near_duplicates(luminances)]
    held_out = _would_be_held_out(sets)
    for group in groups_of([*exact, *near]):
        members = [files[number] for number in group]
        domains = {each.domain for each, _ in members}
        splits = {each.split for each, _ in members}
        if len(splits) > 1:
            name = "across_splits"
        elif len(domains) > 1:
            name = "test_pairs" if splits == {"test"} else "across_domains"
        elif len({file.path in held_out for _, file in members}) > 1:
            name = "across_validation"
        else:
            name = "in_split"
        is_exact = len({file.digest for _, file in members}) == 1
        detail = "identical files" if is_exact else "the same image, stored differently"
        places = " and ".join(dict.fromkeys(each.label for each, _ in members))
        yield name, Occurrence([file.path for _, file in members], places, detail)


def _would_be_held_out(sets: Sequence[ImageSet]) -> set[Path]:
    """Return the training images that data.validation=0.1 holds out, if there are no test images."""
    if any(each.split == "test" and each.files for each in sets):
        return set()
    held_out: set[Path] = set()
    for each in sets:
        held_out |= choose_held_out(each.files, each.folder, HELD_OUT)
    return held_out


def _in_sets(
    sets: Sequence[ImageSet], statistics: Mapping[str, ImageStatistics], gaps: Sequence[ColorGap]
) -> Iterator[tuple[str, Occurrence]]:
    """Yield the findings about whole sets and pairs of domains."""
    for each in sets:
        one = statistics[each.label]
        if each.split != "test" and one.images < RECOMMENDED_IMAGES:
            comment = (
                "far too few"
                if one.images < MIN_IMAGES
                else f"{RECOMMENDED_IMAGES} or more are better"
            )
            images = "1 image" if one.images == 1 else f"{one.images} images"
            yield "few", Occurrence([], each.label, f"{each.label} has {images}, {comment}")
        low, high = one.short_side_quantile(0.05), one.short_side_quantile(0.95)
        if low and high / low > MAX_SIZE_RATIO:
            detail = (
                f"in {each.label}, 9 of 10 short sides are between {low:.0f} and {high:.0f} pixels"
            )
            yield "sizes", Occurrence([], each.label, detail)
    training = {each.domain for each in sets if each.split == "train"}
    for domain in sorted(
        training - {each.domain for each in sets if each.split == "test" and each.files}
    ):
        yield "no_test", Occurrence([], domain, f"{domain} has no test images")
    for gap in gaps:
        if gap.largest >= LARGE_COLOR_GAP:
            detail = (
                f"from {gap.first} to {gap.second} the means change by {_levels(gap.mean)} of 255 "
                f"levels, the standard deviations by {_levels(gap.std)}"
            )
            yield "colours", Occurrence([], f"{gap.first} and {gap.second}", detail)


def _levels(values: Sequence[float]) -> str:
    return " ".join(f"{value:+.0f}" for value in values) + " (R G B)"
