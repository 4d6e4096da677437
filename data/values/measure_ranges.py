"""Measure which values of a domain are black and white, over its training files, before a run."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.threads import map_in_threads
from data.config import ALL_DOMAINS, DataConfig
from data.folders import evenly_spaced
from data.reading import read_image
from data.values.raw_values import MAY_HOLD_VALUES, BadImage, FileFormat, file_format, read_values
from data.values.value_range import DomainFormat, parse_range, range_text, type_range

QUANTILES = (0.001, 0.999)  # that `auto` makes black and white
MAX_FILES, MAX_VALUES = 500, 20_000  # files of a domain, and values of each, that are measured
MIN_LEVELS = 64  # of 256 that must reach the networks where the files have more
FEW_LEVELS, LEVEL_FILES = 24, 8  # levels of a label map or an edge map; files that are looked at


@dataclass
class _Sample:
    """Values of some files of a domain."""

    files: int = 0
    values: list[np.ndarray] = field(default_factory=list)  # valid ones
    invalid: int = 0
    invalid_files: int = 0


def measure_ranges(
    files: Mapping[str, Sequence[Path]], config: DataConfig
) -> tuple[DataConfig, list[str]]:
    """Return the options with a range for each domain whose files are not 8-bit, and notes.

    A note says what was measured, clipped or filled, in one line. UserError: a domain mixes 8-bit
    with other files, has other bands than data.channels, or a range that leaves few levels.
    """
    ranges, dtypes = dict(config.range), dict(config.dtype)
    ranges.pop(ALL_DOMAINS, None)
    notes: list[str] = []
    for domain, paths in files.items():
        formats = _formats(paths)
        given = config.range.get(domain, config.range.get(ALL_DOMAINS, ""))
        pictures = sum(form.is_picture for form in formats.values())
        _refuse_mixture(domain, formats)
        notes += _page_note(domain, formats, config)
        if _all_8_bit(formats) and given in ("", "type"):
            ranges.pop(domain, None)
            notes += _few_levels_note(domain, paths, config) if pictures else []
            continue
        form = DomainFormat(config.channels_of()[domain], config.page)
        sample = _sample(evenly_spaced(list(formats), MAX_FILES), form, config)
        if not sample.values:
            raise UserError(
                f"{domain}: none of its files can be read; check them with: python -m data.doctor "
                f"{shlex.quote(str(paths[0].parent))}",
                option=f"data.train.{domain}", path=paths[0],
            )  # fmt: skip
        dtype = str(np.result_type(*{values.dtype for values in sample.values}))
        dtypes[domain] = config.dtype.get(domain, config.dtype.get(ALL_DOMAINS, dtype))
        low, high = _range(domain, given or "auto", dtype, sample)
        ranges[domain] = range_text(low, high)
        form = replace(form, low=low, high=high, dtype=dtypes[domain])
        notes.append(_range_note(domain, form, given or "auto", sample))
        _refuse_few_levels(domain, form, sample)
    dtypes.pop(ALL_DOMAINS, None)
    return replace(config, range=ranges, dtype=dtypes), notes


def keep_ranges(config: DataConfig, saved: DataConfig) -> DataConfig:
    """Return the options with the ranges that a run measured when it began.

    A range that the options give as numbers stays, so that a difference can be reported.
    """

    def given(domain: str) -> str:
        text = config.range.get(domain, config.range.get(ALL_DOMAINS, ""))
        same = text in ("", "auto", "type") or (
            domain in saved.range
            and parse_range(text, "data.range") == parse_range(saved.range[domain], "data.range")
        )
        return saved.range.get(domain, "") if same else text

    ranges = {domain: text for domain in config.domains if (text := given(domain))}
    dtypes = {
        domain: text for domain in config.domains
        if (text := config.dtype.get(domain, config.dtype.get(ALL_DOMAINS, saved.dtype.get(domain))))
    }  # fmt: skip
    return replace(config, range=ranges, dtype=dtypes)


def _formats(paths: Sequence[Path]) -> dict[Path, FileFormat]:
    """Return file -> format; files that cannot be read are left out."""

    def form(path: Path) -> FileFormat | None:
        try:
            return file_format(path)
        except (BadImage, OSError):  # training, or the check of all images, reports it
            return None

    found = map_in_threads(form, paths, 4, 64)
    return {path: form for path, form in found if form is not None}


def _all_8_bit(formats: Mapping[Path, FileFormat]) -> bool:
    return all(form.dtype == "uint8" for form in formats.values())


def _refuse_mixture(domain: str, formats: Mapping[Path, FileFormat]) -> None:
    values = [path for path, form in formats.items() if form.dtype != "uint8"]
    if values and len(values) < len(formats):
        picture = next(path for path, form in formats.items() if form.dtype == "uint8")
        raise UserError(
            f"{domain} mixes 8-bit files ({picture.name}, {len(formats) - len(values)} in all) "
            f"with files of {formats[values[0]].dtype} ({values[0].name}, {len(values)}): they "
            "have no common range; keep one kind",
            option=f"data.range.{domain}", path=values[0],
        )  # fmt: skip


def _sample(paths: Sequence[Path], form: DomainFormat, config: DataConfig) -> _Sample:
    """Return evenly spaced values of some files."""
    sample = _Sample()
    for path in paths:
        try:
            values, valid = read_values(path, form.channels, form.page)
        except BadImage:
            if config.bad_images == "error":
                raise
            continue
        invalid = int((~valid).sum())
        known = values[valid] if invalid else values.ravel()
        stride = max(len(known) // MAX_VALUES, 1) | 1  # odd: it meets every column of an image
        sample.values.append(known[::stride])
        sample.files += 1
        sample.invalid += invalid
        sample.invalid_files += bool(invalid)
    return sample


def _range(domain: str, given: str, dtype: str, sample: _Sample) -> tuple[float, float]:
    if given == "type":
        return type_range(dtype)
    if given != "auto":
        return parse_range(given, f"data.range.{domain}")
    values = np.concatenate(sample.values)
    if not len(values):
        raise UserError(
            f"{domain}: no valid value in {sample.files} files; set data.range.{domain}=[low,high]",
            option=f"data.range.{domain}",
        )
    low, high = (float(edge) for edge in np.quantile(values.astype(np.float64), QUANTILES))
    if np.dtype(dtype).kind in "iu":
        low, high = float(np.floor(low)), float(np.ceil(high))
    if low >= high:
        raise UserError(
            f"{domain}: nearly all values are {low:g}; set data.range.{domain}=[low,high]",
            option=f"data.range.{domain}",
        )
    return low, high


def _range_note(domain: str, form: DomainFormat, given: str, sample: _Sample) -> str:
    values = np.concatenate(sample.values).astype(np.float64)
    assert form.low is not None and form.high is not None
    clipped = float(((values < form.low) | (values > form.high)).mean())
    source = {
        "auto": f"0.1 % and 99.9 % quantiles of {sample.files} files", "type": "of its type",
    }.get(given, "as given")  # fmt: skip
    note = f"{domain}: {form.dtype} values {form.low:g} to {form.high:g} ({source})"
    if clipped:
        note += f", {100 * clipped:.2g} % of the values lie outside and are clipped"
    if sample.invalid:
        note += (
            f", {sample.invalid} invalid values (NaN, infinite, nodata) in {sample.invalid_files} "
            f"of {sample.files} files are filled with {form.low:g}"
        )
    return note


def _refuse_few_levels(domain: str, form: DomainFormat, sample: _Sample) -> None:
    """Raise UserError where few of 256 levels reach the networks although the files hold more."""
    values = np.concatenate(sample.values)
    held = len(np.unique(values))
    levels = len(np.unique(np.rint(form.to_unit(values) * 255)))
    if levels < MIN_LEVELS and held > levels:
        low, high = (float(edge) for edge in np.quantile(values.astype(np.float64), QUANTILES))
        raise UserError(
            f"data.range.{domain}={range_text(form.low or 0.0, form.high or 0.0)}: the files hold "
            f"{held} different values, but only {levels} of 256 levels reach the networks; most "
            f"values are {low:g} to {high:g}: set data.range.{domain}=[{low:g},{high:g}]",
            option=f"data.range.{domain}",
        )


def _page_note(domain: str, formats: Mapping[Path, FileFormat], config: DataConfig) -> list[str]:
    pages = Counter(form.pages for form in formats.values())
    several = sum(count for number, count in pages.items() if number > 1)
    if not several or config.page:
        return []
    return [
        f"{domain}: {several} of {len(formats)} files have up to {max(pages)} pages; the first is "
        "used (data.page=N is another, data.page=-1 all of them as channels)"
    ]


def _few_levels_note(domain: str, paths: Sequence[Path], config: DataConfig) -> list[str]:
    """Return a note where 8-bit files have so few levels that they are labels or edges."""
    lossless = [path for path in paths if path.suffix.lower() in (*MAY_HOLD_VALUES, ".bmp", ".gif")]
    levels: set[int] = set()
    for path in evenly_spaced(lossless, LEVEL_FILES):
        try:
            image = read_image(path, config.channels_of()[domain], page=config.page)
        except (BadImage, OSError):
            return []
        levels |= set(np.unique(image).tolist())
        if len(levels) > FEW_LEVELS:
            return []
    if not levels or len(lossless) < len(paths):
        return []
    return [
        f"{domain}: only {len(levels)} levels of 256 (labels or edges?); resizing blends them into "
        "others"
    ]
