"""Write a diagnosis as text for the terminal, and as plain data for JSON."""

import shlex
import textwrap
from pathlib import Path
from typing import Any

from data.doctor.examine_image import ExaminedFile
from data.doctor.findings import LEVEL_HEADINGS, Diagnosis, Finding
from data.doctor.folder_layout import display_name, has_training_layout, layout_text
from data.doctor.set_statistics import ImageStatistics

MAX_NAMES = 3  # files that are named for each finding
WIDTH = 110  # characters in a line


def summary(diagnosis: Diagnosis, root: Path | None) -> str:
    """Return the summary for the terminal: statistics, findings, and recommended options."""
    width = max(len(label) for label in diagnosis.statistics)
    lines = [f"Layout: {layout_text(root, diagnosis.sets)}", ""]
    lines += [
        f"  {label:{width}}  {_statistics_line(statistics)}"
        for label, statistics in diagnosis.statistics.items()
    ]
    for level, heading in LEVEL_HEADINGS.items():
        findings = [finding for finding in diagnosis.findings if finding.level == level]
        if findings:
            lines += ["", heading, *(_finding_text(finding, root) for finding in findings)]
    if diagnosis.recommendations:
        width = max(len(advice.option) for advice in diagnosis.recommendations)
        lines += ["", "Recommended options"]
        lines += [
            f"  {advice.option:{width}}  {advice.reason}" for advice in diagnosis.recommendations
        ]
    if diagnosis.command:
        lines += ["", "Train with", f"  {diagnosis.command}"]
        training = [each.folder for each in diagnosis.sets if each.split == "train"]
        if (
            root is not None
            and not has_training_layout(root, diagnosis.sets)
            and len(training) == 2
        ):
            command = shlex.join(["python", "train.py", *map(str, training)])
            lines += ["or let train.py choose the options for this machine", f"  {command}"]
    return "\n".join(lines)


def to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the complete diagnosis as plain values for JSON, with full paths."""
    return {
        "sets": {
            each.label: {
                "folder": str(each.folder), **_statistics_json(diagnosis.statistics[each.label])
            }
            for each in diagnosis.sets
        },
        "colour_gaps": [
            {"from": gap.first, "to": gap.second, "mean": gap.mean, "spread": gap.std}
            for gap in diagnosis.gaps
        ],
        "findings": [
            {"name": finding.name, "level": finding.level, "title": finding.title,
             "advice": finding.advice, "count": len(finding.occurrences),
             "entries": [{"files": [str(file) for file in occurrence.files],
                          "set": occurrence.place, "detail": occurrence.detail}
                         for occurrence in finding.occurrences]}
            for finding in diagnosis.findings
        ],
        "recommendations": [
            {"option": advice.option, "reason": advice.reason, "default": advice.default}
            for advice in diagnosis.recommendations
        ],
        "command": diagnosis.command,
        "files": [_file_json(file) for files in diagnosis.examined for file in files],
    }  # fmt: skip


def _statistics_line(statistics: ImageStatistics) -> str:
    if not statistics.images:
        return (
            f"no usable images ({statistics.unusable} cannot be used)"
            if statistics.unusable
            else "no images"
        )
    low, high = statistics.short_side_quantile(0), statistics.short_side_quantile(1)
    sides = f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"
    low, high = min(statistics.aspects), max(statistics.aspects)
    shape = f"{low:.2f}" if round(low, 2) == round(high, 2) else f"{low:.2f} to {high:.2f}"
    mean, std = (
        " ".join(f"{level:3.0f}" for level in levels)
        for levels in (statistics.mean, statistics.std)
    )
    images = "image " if statistics.images == 1 else "images"
    return (
        f"{statistics.images:6,} {images}  short side {sides}  width/height {shape}  "
        f"R G B {mean} ± {std}"
    )


def _finding_text(finding: Finding, root: Path | None) -> str:
    """Return a paragraph: the title, the first few files or the affected sets, and the advice."""
    title = f"{finding.title[0].upper()}{finding.title[1:]}"
    if not finding.occurrences[0].files:
        details = "; ".join(occurrence.detail for occurrence in finding.occurrences)
        return _wrap(f"{title}: {details}. {finding.advice}")
    named = []
    for occurrence in finding.occurrences[:MAX_NAMES]:
        names = " = ".join(display_name(file, root) for file in occurrence.files[:2])
        more = f" = {len(occurrence.files) - 2} more" if len(occurrence.files) > 2 else ""
        detail = f" ({occurrence.detail[:60]})" if finding.level == "error" else ""
        named.append(f"{names}{more}{detail}")
    rest = len(finding.occurrences) - MAX_NAMES
    ending = f" and {rest:,} more" if rest > 0 else ""
    files = f"{', '.join(named)}{ending}"
    return _wrap(f"{title} ({len(finding.occurrences):,}): {files}. {finding.advice}")


def _wrap(text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent="  ", subsequent_indent="      ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _statistics_json(statistics: ImageStatistics) -> dict[str, Any]:
    return {
        "images": statistics.images, "unusable": statistics.unusable, "mean": statistics.mean,
        "spread": statistics.std, "grey_share": round(statistics.grey, 4),
        "channels": statistics.channels, "median_megapixels": round(statistics.megapixels, 4),
        "short_side": {name: statistics.short_side_quantile(fraction) for name, fraction in
                       (("least", 0), ("quarter", 0.25), ("half", 0.5), ("most", 1))},
    }  # fmt: skip


def _file_json(file: ExaminedFile) -> dict[str, Any]:
    header = file.header
    described = {"format": header.format, "mode": header.mode, "width": header.width,
                 "height": header.height} if header else {}  # fmt: skip
    return {
        "file": str(file.path), "fault": file.fault, "reason": file.reason, **described,
        "oddities": file.oddities, "sha256": file.digest,
        "mean": [round(level, 2) for level in file.mean],
        "spread": [round(level, 2) for level in file.std],
    }  # fmt: skip
