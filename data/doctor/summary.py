"""What the doctor found as text for the terminal, and as data for programs."""

import textwrap
from pathlib import Path
from typing import Any

from data.doctor.examine import Examined
from data.doctor.findings import Diagnosis, Finding
from data.doctor.layout import shown
from data.doctor.set_statistics import ImageStatistics

NAMES, WIDTH = 3, 110  # files that are named of each finding, letters in a line
HEADINGS = {"unusable": "Cannot be used", "attend": "Attend to", "note": "Good to know"}


def summary(diagnosis: Diagnosis, root: Path | None) -> str:
    """Return the short version: counts, the first few names of each finding, and what to train with."""
    wide = max(len(label) for label in diagnosis.figures)
    lines = [
        f"  {label:{wide}}  {_line_of(figures)}" for label, figures in diagnosis.figures.items()
    ]
    for level, heading in HEADINGS.items():
        findings = [finding for finding in diagnosis.findings if finding.level == level]
        if findings:
            lines += ["", heading, *(_told(finding, root) for finding in findings)]
    if diagnosis.recommendations:
        wide = max(len(advice.option) for advice in diagnosis.recommendations)
        lines += ["", "Train with"]
        lines += [
            f"  {advice.option:{wide}}  {advice.reason}" for advice in diagnosis.recommendations
        ]
    if diagnosis.command:
        lines += ["", diagnosis.command]
    return "\n".join(lines)


def record(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return everything as plain values for JSON, files by their whole path."""
    return {
        "sets": {
            each.label: {"folder": str(each.folder), **_numbers(diagnosis.figures[each.label])}
            for each in diagnosis.sets
        },
        "colour_gaps": [
            {"from": gap.first, "to": gap.second, "mean": gap.mean, "spread": gap.spread}
            for gap in diagnosis.gaps
        ],
        "findings": [
            {"name": finding.name, "level": finding.level, "title": finding.title,
             "advice": finding.advice, "count": len(finding.entries),
             "entries": [{"files": [str(file) for file in entry.files], "set": entry.place,
                          "detail": entry.text} for entry in finding.entries]}
            for finding in diagnosis.findings
        ],
        "recommendations": [
            {"option": advice.option, "reason": advice.reason, "default": advice.default}
            for advice in diagnosis.recommendations
        ],
        "command": diagnosis.command,
        "files": [_file(entry) for entries in diagnosis.examined for entry in entries],
    }  # fmt: skip


def _line_of(figures: ImageStatistics) -> str:
    if not figures.images:
        return (
            f"no usable image ({figures.unusable} cannot be used)"
            if figures.unusable
            else "no image"
        )
    low, high = figures.quantile(0), figures.quantile(1)
    sides = f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"
    narrow, wide = min(figures.aspects), max(figures.aspects)
    shape = f"{narrow:.2f}" if round(narrow, 2) == round(wide, 2) else f"{narrow:.2f} to {wide:.2f}"
    colours, spread = (
        " ".join(f"{level:3.0f}" for level in levels) for levels in (figures.mean, figures.spread)
    )
    images = "image " if figures.images == 1 else "images"
    return (
        f"{figures.images:6,} {images}  short side {sides}  width/height {shape}  "
        f"R G B {colours} ± {spread}"
    )


def _told(finding: Finding, root: Path | None) -> str:
    if not finding.entries[0].files:
        told = "; ".join(f"{entry.place}: {entry.text}" for entry in finding.entries)
        return _wrapped(f"{finding.title}: {told}; {finding.advice}")
    named = []
    for entry in finding.entries[:NAMES]:
        names = " = ".join(shown(file, root) for file in entry.files[:2])
        more = f" = {len(entry.files) - 2} more" if len(entry.files) > 2 else ""
        detail = f" ({entry.text[:60]})" if finding.level == "unusable" else ""
        named.append(f"{names}{more}{detail}")
    rest = len(finding.entries) - NAMES
    ending = f" and {rest:,} more" if rest > 0 else ""
    return _wrapped(
        f"{len(finding.entries):,} {finding.title}: {', '.join(named)}{ending}; {finding.advice}"
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent="  ", subsequent_indent="      ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _numbers(figures: ImageStatistics) -> dict[str, Any]:
    return {
        "images": figures.images, "unusable": figures.unusable, "mean": figures.mean,
        "spread": figures.spread, "grey_share": round(figures.grey, 4), "channels": figures.channels,
        "median_megapixels": round(figures.megapixels, 4),
        "short_side": {name: figures.quantile(share) for name, share in
                       (("least", 0), ("quarter", 0.25), ("half", 0.5), ("most", 1))},
    }  # fmt: skip


def _file(entry: Examined) -> dict[str, Any]:
    header = entry.header
    kept = {"format": header.format, "mode": header.mode, "width": header.width,
            "height": header.height} if header else {}  # fmt: skip
    return {
        "file": str(entry.path), "fault": entry.fault, "reason": entry.reason, **kept,
        "oddities": entry.oddities, "sha256": entry.digest,
        "mean": [round(level, 2) for level in entry.mean],
        "spread": [round(level, 2) for level in entry.spread],
    }  # fmt: skip
