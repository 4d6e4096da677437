"""Write a diagnosis as one self-contained web page."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from data.doctor.examine_image import ExaminedFile
from data.doctor.findings import LEVEL_HEADINGS, Diagnosis, Finding
from data.doctor.folder_layout import display_name
from data.doctor.set_statistics import ColorGap, ImageStatistics

TEMPLATE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
MAX_THUMBNAILS, MAX_ROWS = 12, 500  # of one finding on the page; doctor.json has all
BINS = 24


def page(diagnosis: Diagnosis, root: Path | None, name: str) -> str:
    """Return the HTML of the page."""
    count = sum(len(files) for files in diagnosis.examined)
    unusable = sum(statistics.unusable for statistics in diagnosis.statistics.values())
    by_path = {file.path: file for files in diagnosis.examined for file in files}
    sections = [_section(finding, by_path, root) for finding in diagnosis.findings]
    verdict = f"{unusable:,} cannot be used" if unusable else "all can be used"
    return TEMPLATE.substitute(
        title=escape(name),
        lead=f"{_plural(count, 'file')} in {_plural(len(diagnosis.sets), 'set')}: {verdict}",
        sets="".join(
            _card(label, statistics) for label, statistics in diagnosis.statistics.items()
        ),
        gaps="".join(_gap(gap) for gap in diagnosis.gaps),
        findings="".join(sections) or '<p class="note">Nothing to report.</p>',
        recommendations="".join(
            f"<tr><td><code>{escape(advice.option)}</code></td><td>{escape(advice.reason)}</td>"
            f"<td>{'default' if advice.default else ''}</td></tr>"
            for advice in diagnosis.recommendations
        ),
        command=f"<pre>{escape(diagnosis.command)}</pre>" if diagnosis.command else "",
        histograms=_histograms(diagnosis.statistics),
    )


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _card(label: str, statistics: ImageStatistics) -> str:
    """Return a box with the statistics of a set."""
    name = f'<div class="card"><span>{escape(label)}</span>'
    if not statistics.images:
        return f"{name}<b>0</b><small>no usable images</small></div>"
    low, median, high = (statistics.short_side_quantile(fraction) for fraction in (0, 0.5, 1))
    sides = f"{median:.0f} px"
    if low != high:
        sides = f"{low:.0f} to {high:.0f} px, half below {median:.0f}"
    mean = " ".join(f"{level:.0f}" for level in statistics.mean)
    std = " ".join(f"{level:.0f}" for level in statistics.std)
    return (
        f"{name}<b>{statistics.images:,}</b><small>short side {sides}</small>"
        f'<small><i class="chip" style="background:rgb({mean})"></i>{mean} ± {std}</small></div>'
    )


def _gap(gap: ColorGap) -> str:
    mean, std = (" ".join(f"{value:+.0f}" for value in values) for values in (gap.mean, gap.std))
    return (
        f'<p class="note">From {escape(gap.first)} to {escape(gap.second)}, the mean colours '
        f"(R G B) change by {mean} of 255 levels, their standard deviations by {std}.</p>"
    )


def _section(finding: Finding, by_path: Mapping[Path, ExaminedFile], root: Path | None) -> str:
    """Return the part of the page about one finding."""
    occurrences = finding.occurrences
    rows = "".join(
        f"<tr><td>{_names(occurrence.files, root) or escape(occurrence.place)}"
        f"</td><td>{escape(occurrence.detail)}</td></tr>"
        for occurrence in occurrences[:MAX_ROWS]
    )
    more = len(occurrences) - MAX_ROWS
    rest = f'<p class="note">doctor.json lists {more:,} more.</p>' if more > 0 else ""
    thumbnails = "".join(
        _thumbnail(by_path[file], display_name(file, root), occurrence.detail)
        for occurrence in occurrences[:MAX_THUMBNAILS]
        for file in occurrence.files[:4]
        if file in by_path
    )
    strip = f'<div class="strip">{thumbnails}</div>' if thumbnails else ""
    table = f'<div class="wide"><table>{rows}</table></div>{rest}'
    if len(occurrences) > 3:
        table = f"<details><summary>show all {len(occurrences):,}</summary>{table}</details>"
    title = escape(f"{finding.title[0].upper()}{finding.title[1:]}")
    count = f" ({len(occurrences):,})" if occurrences[0].files else ""
    return (
        f'<article class="is-{finding.level}">'
        f"<header><em>{LEVEL_HEADINGS[finding.level]}</em> <b>{title}{count}</b><br>"
        f"{escape(finding.advice)}</header>{strip}{table}</article>"
    )


def _names(files: Sequence[Path], root: Path | None) -> str:
    return "<br>".join(escape(display_name(file, root)) for file in files)


def _thumbnail(file: ExaminedFile, name: str, detail: str) -> str:
    if not file.thumbnail:
        return ""
    source = f"data:image/jpeg;base64,{base64.b64encode(file.thumbnail).decode()}"
    text = escape(f"{name}: {detail}", quote=True)
    caption = escape(file.path.name.encode("utf-8", "replace").decode())
    return (
        f'<figure><img src="{source}" alt="{text}" title="{text}" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _histograms(statistics: Mapping[str, ImageStatistics]) -> str:
    known = {label: each for label, each in statistics.items() if each.images}
    if not known:
        return ""
    sides = [side for each in known.values() for side in each.short_sides]
    aspects = [aspect for each in known.values() for aspect in each.aspects]
    side_edges = _edges(min(sides), max(sides), 1.05)
    aspect_edges = _edges(min(*aspects, 0.5), max(*aspects, 2.0), 1.05)
    return "".join(
        f"<div><h3>{escape(label)}</h3>"
        + _histogram("short side, pixels", each.short_sides, side_edges, "{:.0f}")
        + _histogram("width / height", each.aspects, aspect_edges, "{:.2f}")
        + "</div>"
        for label, each in known.items()
    )


def _edges(low: float, high: float, margin: float) -> np.ndarray:
    """Return logarithmic bin edges: one half and two are equally far from one."""
    return np.geomspace(low / margin, high * margin, BINS + 1)


def _histogram(title: str, values: Sequence[float], edges: np.ndarray, form: str) -> str:
    counts = np.histogram(values, edges)[0]
    heights = 60 * counts / counts.max()
    bars = "".join(
        f'<rect x="{number * 10}" y="{60 - height:.1f}" width="9" height="{height:.1f}"><title>'
        f"{form.format(edges[number])} to {form.format(edges[number + 1])}: {count}</title></rect>"
        for number, (count, height) in enumerate(zip(counts, heights, strict=True))
        if count
    )
    low, high = form.format(edges[0]), form.format(edges[-1])
    return (
        f'<figure><svg viewBox="0 0 {BINS * 10} 61" role="img" aria-label="{title}">{bars}'
        f'<line x1="0" y1="60.5" x2="{BINS * 10}" y2="60.5"/></svg><figcaption class="axis">'
        f"<span>{low}</span><span>{title}</span><span>{high}</span></figcaption></figure>"
    )
