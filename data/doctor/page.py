"""What the doctor found as one web page that needs nothing beside it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from data.doctor.examine import Examined
from data.doctor.findings import Diagnosis, Finding
from data.doctor.layout import shown
from data.doctor.set_statistics import ColorGap, ImageStatistics

PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
PICTURES, ROWS = 12, 500  # of one finding on the page; doctor.json has all
BINS = 24
LEVELS = {"unusable": "cannot be used", "attend": "attend to", "note": "good to know"}


def page(diagnosis: Diagnosis, root: Path | None, name: str) -> str:
    """Return the page's HTML."""
    images = sum(len(entries) for entries in diagnosis.examined)
    unusable = sum(figures.unusable for figures in diagnosis.figures.values())
    seen = {entry.path: entry for entries in diagnosis.examined for entry in entries}
    sections = [_section(finding, seen, root) for finding in diagnosis.findings]
    verdict = f"{unusable} cannot be used" if unusable else "every one can be used"
    return PAGE.substitute(
        title=escape(name),
        lead=f"{images:,} images in {_several(len(diagnosis.sets), 'set')}; {verdict}",
        sets="".join(_card(label, figures) for label, figures in diagnosis.figures.items()),
        gaps="".join(_gap(gap) for gap in diagnosis.gaps),
        findings="".join(sections) or '<p class="note">Nothing to remark.</p>',
        recommendations="".join(
            f"<tr><td><code>{escape(advice.option)}</code></td><td>{escape(advice.reason)}</td>"
            f"<td>{'the default' if advice.default else ''}</td></tr>"
            for advice in diagnosis.recommendations
        ),
        command=f"<pre>{escape(diagnosis.command)}</pre>" if diagnosis.command else "",
        histograms=_histograms(diagnosis.figures),
    )


def _several(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _card(label: str, figures: ImageStatistics) -> str:
    if not figures.images:
        return f'<div class="figure"><span>{escape(label)}</span><b>0</b><small>no images</small></div>'
    low, middle, high = (figures.quantile(share) for share in (0, 0.5, 1))
    sides = (
        f"{middle:.0f} px"
        if low == high
        else f"{low:.0f} to {high:.0f} px, half below {middle:.0f}"
    )
    colour = f"rgb({' '.join(f'{level:.0f}' for level in figures.mean)})"
    levels = " ".join(f"{level:.0f}" for level in figures.mean)
    spread = " ".join(f"{level:.0f}" for level in figures.spread)
    return (
        f'<div class="figure"><span>{escape(label)}</span><b>{figures.images:,}</b>'
        f"<small>short side {sides}</small>"
        f'<small><i class="chip" style="background:{colour}"></i>{levels} ± {spread}</small></div>'
    )


def _gap(gap: ColorGap) -> str:
    mean, spread = (
        " ".join(f"{value:+.0f}" for value in values) for values in (gap.mean, gap.spread)
    )
    return (
        f'<p class="note">From {escape(gap.first)} to {escape(gap.second)} the colours (R G B) move by '
        f"{mean} of 255 levels, their deviations by {spread}.</p>"
    )


def _section(finding: Finding, seen: Mapping[Path, Examined], root: Path | None) -> str:
    rows = "".join(
        f"<tr><td>{'<br>'.join(escape(shown(file, root)) for file in entry.files) or escape(entry.place)}"
        f"</td><td>{escape(entry.text)}</td></tr>"
        for entry in finding.entries[:ROWS]
    )
    more = len(finding.entries) - ROWS
    rest = f'<p class="note">{more:,} more are in doctor.json.</p>' if more > 0 else ""
    pictures = "".join(
        _picture(seen[file], shown(file, root), entry.text) if file in seen else ""
        for entry in finding.entries[:PICTURES]
        for file in entry.files[:4]
    )
    strip = f'<div class="strip">{pictures}</div>' if pictures else ""
    count = f"{len(finding.entries):,} " if finding.entries[0].files else ""
    table = f'<div class="wide"><table>{rows}</table></div>{rest}'
    if len(finding.entries) > 3:
        table = f"<details><summary>all {len(finding.entries):,}</summary>{table}</details>"
    return (
        f'<article class="is-{finding.level}"><header><em>{LEVELS[finding.level]}</em> '
        f"<b>{count}{escape(finding.title)}</b><br>{escape(finding.advice)}</header>{strip}{table}</article>"
    )


def _picture(entry: Examined, name: str, detail: str) -> str:
    if not entry.thumbnail:
        return ""
    source = f"data:image/jpeg;base64,{base64.b64encode(entry.thumbnail).decode()}"
    words = escape(f"{name}: {detail}", quote=True)
    return (
        f'<figure><img src="{source}" alt="{words}" title="{words}" loading="lazy">'
        f"<figcaption>{escape(entry.path.name.encode('utf-8', 'replace').decode())}</figcaption></figure>"
    )


def _histograms(figures: Mapping[str, ImageStatistics]) -> str:
    known = {label: each for label, each in figures.items() if each.images}
    if not known:
        return ""
    sides = [side for each in known.values() for side in each.short_sides]
    shapes = [aspect for each in known.values() for aspect in each.aspects]
    size_edges = _edges(min(sides), max(sides), 1.05)
    shape_edges = _edges(min(*shapes, 0.5), max(*shapes, 2.0), 1.05)
    return "".join(
        f"<div><h3>{escape(label)}</h3>"
        + _histogram("short side, pixels", each.short_sides, size_edges, "{:.0f}")
        + _histogram("width over height", each.aspects, shape_edges, "{:.2f}")
        + "</div>"
        for label, each in known.items()
    )


def _edges(low: float, high: float, least: float) -> np.ndarray:
    """Return edges of equal ratios, so that a half and a double are equally far from one."""
    return np.geomspace(low / least, high * least, BINS + 1)


def _histogram(title: str, values: Sequence[float], edges: np.ndarray, form: str) -> str:
    counts = np.histogram(values, edges)[0]
    bars = "".join(
        f'<rect x="{number * 10}" y="{60 - 60 * count / counts.max():.1f}" width="9" '
        f'height="{60 * count / counts.max():.1f}"><title>'
        f"{form.format(edges[number])} to {form.format(edges[number + 1])}: {count}</title></rect>"
        for number, count in enumerate(counts)
        if count
    )
    return (
        f'<figure><svg viewBox="0 0 {BINS * 10} 61" role="img" aria-label="{title}">{bars}'
        f'<line x1="0" y1="60.5" x2="{BINS * 10}" y2="60.5"/></svg><figcaption class="axis">'
        f"<span>{form.format(edges[0])}</span><span>{title}</span><span>{form.format(edges[-1])}</span>"
        "</figcaption></figure>"
    )
