"""What a person should know of a set of images, from what was seen in each file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.doctor.examine import Examined
from data.doctor.layout import ImageSet
from data.doctor.near_duplicates import groups_of, near_duplicates
from data.doctor.recommend import Recommendation, command_of, crop_for, recommend
from data.doctor.set_statistics import ColorGap, ImageStatistics, color_gaps, image_statistics

Level = Literal["unusable", "attend", "note"]
MOST_FEW, FEW = 50, 300  # images of a domain: far too few, and few

# Finding -> how grave it is, its title, and what to do. In this order they are told.
KINDS: dict[str, tuple[Level, str, str]] = {
    "unreadable": ("unusable", "unreadable", "remove or replace them: training stops at the first"),
    "truncated": ("unusable", "cut off in the middle", "fetch or copy them again, or remove them"),
    "too_large": ("unusable", "over 89 megapixels, or unpacking to too much", "make them smaller"),
    "killed": ("unusable", "crashing or stalling what reads them", "remove them: they would end a run"),
    "few": ("attend", "too few images", "a translator of few images learns them by heart; add more"),
    "no_test": ("attend", "no held-out images", "keep a tenth aside in testA, testB, or set data.validation"),
    "across_splits": ("attend", "in training and among the held-out images",
                      "remove one of each: they flatter what is measured"),
    "across_domains": ("attend", "in both domains", "remove them: they teach to change nothing"),
    "constant": ("attend", "almost of one colour",
                 "remove them: an instance norm divides by their deviation, and losses explode"),
    "small": ("attend", "much smaller than what is trained on", "they are blown up; crop less"),
    "in_split": ("note", "more than once in one folder", "they count as often in training"),
    "narrow": ("note", "more than three times as long as wide", "cut them, or use data.fit=short_side"),
    "sizes": ("note", "very different sizes", "what is a detail in one is a whole in another"),
    "colours": ("note", "colours differ", "the further, the smaller method.identity_weight should be"),
    "grey": ("note", "without colour", "among colour images they teach a translator to drop it"),
    "deep": ("note", "with more than 8 bits a sample", "they are scaled to 8"),
    "alpha": ("note", "with transparency", "it is laid over white"),
    "colour_space": ("note", "in CMYK, Lab or a palette", "they are converted to RGB"),
    "icc": ("note", "with a colour profile other than sRGB", "they are converted to sRGB"),
    "exif_turned": ("note", "turned by EXIF", "they are read upright; other tools may not"),
    "animated": ("note", "of several frames or pages", "only the first one counts"),
    "misnamed": ("note", "with another format's name", "the content decides; other tools may stumble"),
    "metadata": ("note", "with damaged metadata", "it is ignored"),
    "passed_over": ("note", "passed over", "they are no images, or cannot be reached"),
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One occurrence: the files it is about (none where it is about a whole set) and its detail."""

    files: list[Path]
    place: str  # the set's label, or two of them
    text: str


@dataclass(frozen=True)
class Finding:
    """All occurrences of one kind."""

    name: str
    entries: list[Entry]

    @property
    def level(self) -> Level:
        return KINDS[self.name][0]

    @property
    def title(self) -> str:
        return KINDS[self.name][1]

    @property
    def advice(self) -> str:
        return KINDS[self.name][2]


@dataclass(frozen=True)
class Diagnosis:
    """Everything the doctor says; lists of files stand in the order of the folders."""

    sets: list[ImageSet]
    examined: list[list[Examined]]  # of each set
    figures: dict[str, ImageStatistics]  # by a set's label
    gaps: list[ColorGap]
    findings: list[Finding]
    recommendations: list[Recommendation]
    command: str

    @property
    def usable(self) -> bool:
        return all(finding.level != "unusable" for finding in self.findings)


def diagnose(
    root: Path | None, sets: Sequence[ImageSet], examined: Sequence[Sequence[Examined]]
) -> Diagnosis:
    """Draw conclusions from what was seen in the files of each set."""
    seen = [list(entries) for entries in examined]
    figures = {
        each.label: image_statistics(entries) for each, entries in zip(sets, seen, strict=True)
    }
    trained = {each.domain: figures[each.label] for each in sets if each.split != "test"}
    gaps = color_gaps(trained) if trained else []
    crop = crop_for(trained)
    by_name: dict[str, list[Entry]] = {name: [] for name in KINDS}
    sources = (_of_files(sets, seen, crop), _copies(sets, seen), _of_sets(sets, figures, gaps))
    for source in sources:
        for name, entry in source:
            by_name[name].append(entry)
    name = root.resolve().name if root else "-".join(trained)
    advice = recommend(trained, gaps, name)
    return Diagnosis(
        list(sets), seen, figures, gaps,
        [Finding(name, entries) for name, entries in by_name.items() if entries],
        advice, command_of(advice, root, sets),
    )  # fmt: skip


def _of_files(
    sets: Sequence[ImageSet], seen: Sequence[Sequence[Examined]], crop: int
) -> Iterator[tuple[str, Entry]]:
    for each, entries in zip(sets, seen, strict=True):
        for path, reason in each.passed_over:
            yield "passed_over", Entry([path], each.label, reason)
        for file in entries:
            if file.fault:
                yield file.fault, Entry([file.path], each.label, file.reason)
                continue
            for name, detail in file.oddities.items():
                yield name, Entry([file.path], each.label, detail)
            if file.header and min(file.header.width, file.header.height) < crop / 2:
                size = f"{file.header.width}x{file.header.height}"
                yield "small", Entry([file.path], each.label, f"{size}, for a crop of {crop}")


def _copies(
    sets: Sequence[ImageSet], seen: Sequence[Sequence[Examined]]
) -> Iterator[tuple[str, Entry]]:
    """Yield each group of equal pictures once, under the gravest of what it crosses."""
    files = [(each, file) for each, entries in zip(sets, seen, strict=True) for file in entries]
    files = [(each, file) for each, file in files if file.print is not None]
    first_of: dict[str, int] = {}
    exact: list[tuple[int, int]] = []
    for number, (_, file) in enumerate(files):
        first = first_of.setdefault(file.digest, number)
        if first != number:
            exact.append((first, number))
    singles = list(first_of.values())
    prints = [print_ for n in singles if (print_ := files[n][1].print) is not None]
    near = [(singles[i], singles[j]) for i, j in near_duplicates(prints)]
    for group in groups_of([*exact, *near]):
        members = [files[number] for number in group]
        domains = {each.domain for each, _ in members}
        splits = {each.split for each, _ in members}
        name = (
            "across_splits"
            if len(splits) > 1
            else "across_domains"
            if len(domains) > 1
            else "in_split"
        )
        same = len({file.digest for _, file in members}) == 1
        text = "the same bytes" if same else "one picture, stored differently"
        places = " and ".join(dict.fromkeys(each.label for each, _ in members))
        yield name, Entry([file.path for _, file in members], places, text)


def _of_sets(
    sets: Sequence[ImageSet], figures: Mapping[str, ImageStatistics], gaps: Sequence[ColorGap]
) -> Iterator[tuple[str, Entry]]:
    for each in sets:
        numbers = figures[each.label]
        if each.split != "test" and numbers.images < FEW:
            words = (
                "are far too few"
                if numbers.images < MOST_FEW
                else f"are few; {FEW} and more are better"
            )
            yield "few", Entry([], each.label, f"{numbers.images} images {words}")
        low, high = numbers.quantile(0.05), numbers.quantile(0.95)
        if low and high / low > 4:
            text = f"short sides from {low:.0f} to {high:.0f} pixels, the extremes left out"
            yield "sizes", Entry([], each.label, text)
    trained = {each.domain for each in sets if each.split == "train"}
    for domain in sorted(
        trained - {each.domain for each in sets if each.split == "test" and each.files}
    ):
        yield "no_test", Entry([], domain, f"{domain} has no test images")
    for gap in gaps:
        if gap.largest >= 20:
            text = f"means differ by {_levels(gap.mean)} of 255 levels, deviations by {_levels(gap.spread)}"
            yield "colours", Entry([], f"{gap.first} and {gap.second}", text)


def _levels(values: Sequence[float]) -> str:
    return " ".join(f"{value:+.0f}" for value in values) + " (R G B)"
