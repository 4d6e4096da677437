"""Compare two training runs in detail: python -m comparison.reproducibility RUN RUN [out=FILE].

The comparison covers what determines a result (code, images, options, versions, machine) and every
logged value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.command_line import parse_words
from common.errors import UserError
from common.files import write_text
from common.run_main import run_command
from common.text_table import aligned
from common.user_paths import page_path, parse_path
from comparison.curves_page import curves_page
from comparison.training_log import TrainingLog, read_training_log
from engine.loss_names import shown_name
from options.help import shown
from options.resume_check import may_change

# Options that only locate the images; equal fingerprints mean equal images wherever they are.
LOCATION_OPTIONS = ("data.root", "data.train", "data.test")
TOLERANCE = 1e-5  # of the larger value: some hundred roundings of a float32
MAX_LINES = 6  # of differences shown for each part of the experiment
USAGE = """\
usage: python -m comparison.reproducibility RUN RUN [tolerance=1e-5] [out=RUN/repeated.html]

Compares two training runs: whether code, images, options, versions and machine are the same, and
whether the logged values are identical bit for bit, equal within rounding (no two values differ by
more than `tolerance` of the larger), or different from some step on. RUN is a run folder, or the
folder of an offline W&B run. The page shows the curves. Exit code 0: identical, or equal within
rounding; 1: different.
"""


@dataclass(frozen=True)
class FirstDifference:
    """How one logged value differs between two runs."""

    name: str
    steps: int  # number of steps at which both runs logged it
    not_identical: int | None  # the first step at which the two numbers are not identical
    beyond_tolerance: int | None  # the first step at which they differ by more than the tolerance
    largest: float  # the largest relative difference
    largest_at: int  # the step of the largest difference


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    tolerance: float = TOLERANCE
    out: str = ""


def main(arguments: Sequence[str]) -> int:
    """Run the command; return 1 where the runs differ by more than the tolerance, else 0."""
    parsed = parse_words(arguments, Options, USAGE)
    if parsed is None:
        return 0
    words, options = parsed
    if len(words) != 2:
        raise UserError(
            "usage: python -m comparison.reproducibility RUN RUN [tolerance=1e-5] [out=page.html]"
        )
    tolerance = options.tolerance
    if not 0 <= tolerance < 1:
        raise UserError(
            f"tolerance must be at least 0 and below 1, got {tolerance}", option="tolerance"
        )
    paths = [parse_path(word) for word in words]
    one, other = map(read_training_log, paths)
    values = first_differences(one, other, tolerance)
    domains = one.domains if one.domains == other.domains else []
    report = "\n\n".join([
        _experiment_text(one, other), _values_table(values, domains),
        verdict(one, other, values, tolerance),
    ])  # fmt: skip
    print(report)
    # The first run may also be a file of an offline W&B run, which has no folder to write into.
    default = paths[0] / "repeated.html" if paths[0].is_dir() else "repeated.html"
    out = page_path(options.out or default)
    curves = {
        shown_name(value.name, domains): (
            _curve(one, value.name), _curve(other, value.name), value.beyond_tolerance
        )
        for value in values
    }  # fmt: skip
    write_text(out, curves_page(one.name, other.name, report, curves))
    print(f"curves: {out}")
    return 0 if all(value.beyond_tolerance is None for value in values) else 1


def first_differences(
    one: TrainingLog, other: TrainingLog, tolerance: float = TOLERANCE
) -> list[FirstDifference]:
    """Return the differences of every value that both runs logged at a common step.

    `tolerance` is relative to the larger of two values. UserError where no value was logged by both
    runs at one step.
    """
    steps = sorted(one.rows.keys() & other.rows.keys())
    names = dict.fromkeys(name for run in (one, other) for step in steps for name in run.rows[step])
    found = []
    for name in names:
        pairs = [
            (step, one.rows[step][name], other.rows[step][name])
            for step in steps
            if name in one.rows[step] and name in other.rows[step]
        ]
        if not pairs:
            continue
        gaps = [(relative_difference(x, y), step) for step, x, y in pairs]
        largest, largest_at = max(gaps, key=lambda gap: gap[0])
        found.append(
            FirstDifference(
                name=name,
                steps=len(pairs),
                not_identical=next((s for s, x, y in pairs if not equal_numbers(x, y)), None),
                beyond_tolerance=next((step for gap, step in gaps if gap > tolerance), None),
                largest=largest,
                largest_at=largest_at,
            )
        )
    if not found:
        raise UserError(
            f"{one.name} and {other.name} have no logged step in common; compare runs that logged "
            "at the same steps",
            path=other.name,
        )
    return found


def equal_numbers(one: float, other: float) -> bool:
    """Return whether two values are the same number; NaN equals NaN."""
    return one == other or (math.isnan(one) and math.isnan(other))


def relative_difference(one: float, other: float) -> float:
    """Return |one - other| as a fraction of the larger magnitude.

    0 for equal numbers (also NaN and NaN); infinity where they differ and one is NaN or infinite.
    """
    if equal_numbers(one, other):
        return 0.0
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other))


def verdict(
    one: TrainingLog,
    other: TrainingLog,
    values: Sequence[FirstDifference],
    tolerance: float = TOLERANCE,
) -> str:
    """Return in one line whether two runs are the same experiment with equal logged values."""
    changed = [name for name, lines in differences(one, other).items() if lines]
    same = not {*changed} & {"options", "images", "code"}
    experiment = "the same experiment" if same else "another experiment"
    if changed:
        experiment += f" (not the same: {', '.join(changed)})"
    unmatched = len(one.rows.keys() ^ other.rows.keys())
    experiment += f"; {unmatched} logged steps are in only one of them" if unmatched else ""
    not_identical = [v.not_identical for v in values if v.not_identical is not None]
    if not not_identical:
        steps = max(value.steps for value in values)
        return f"{experiment}: identical bit for bit at all {steps} logged steps"
    first = min(not_identical)
    beyond = min(
        (v.beyond_tolerance for v in values if v.beyond_tolerance is not None), default=None
    )
    phases = []
    if first > min(one.rows.keys() & other.rows.keys()):
        phases.append(f"identical before step {first}")
    if beyond is None:
        phases.append(f"equal within {tolerance:g} relative from step {first} on")
    elif beyond > first:
        phases.append(f"equal within {tolerance:g} relative before step {beyond}")
    if beyond is not None:
        phases.append(f"different from step {beyond} on")
    return f"{experiment}: {', '.join(phases)}"


def differences(one: TrainingLog, other: TrainingLog) -> dict[str, list[str]]:
    """Return part of the experiment -> its differences, a line each; facts not recorded differ too.

    The parts are code, images, options, versions and machine. Options that do not alter a result
    (see `options.resume_check.may_change`) are not compared, nor the location of equal images.
    """
    same_images = bool(one.images) and one.images == other.images
    options = {
        name: (one.options.get(name), other.options.get(name))
        for name in sorted({*one.options, *other.options})
        if not may_change(name) and not (same_images and name in LOCATION_OPTIONS)
    }
    same_code = one.code and one.code == other.code
    return {
        "code": [] if same_code else [f"{_code_version(one)} -> {_code_version(other)}"],
        "images": _changed_facts(one.images, other.images),
        "options": [f"{n} {shown(a)} -> {shown(b)}" for n, (a, b) in options.items() if a != b],
        "versions": _changed_facts(one.versions, other.versions),
        "machine": _changed_facts(one.machine, other.machine),
    }


def _experiment_text(one: TrainingLog, other: TrainingLog) -> str:
    lines = [f"{one.name} and {other.name}"]
    for part, changes in differences(one, other).items():
        more = f"; and {len(changes) - MAX_LINES} more" if len(changes) > MAX_LINES else ""
        lines.append(f"{part:<10}{'; '.join(changes[:MAX_LINES]) or 'the same'}{more}")
    return "\n".join(lines)


def _values_table(values: Sequence[FirstDifference], domains: Sequence[str]) -> str:
    head = ["logged", "steps", "largest difference", "at step", "not identical from",
            "beyond tolerance from"]  # fmt: skip
    rows = [head]
    for value in values:
        largest = f"{value.largest:.2g}" if value.largest else "0"
        at = str(value.largest_at) if value.largest else "-"
        firsts = (
            "-" if s is None else str(s) for s in (value.not_identical, value.beyond_tolerance)
        )
        rows.append([shown_name(value.name, domains), str(value.steps), largest, at, *firsts])
    return aligned(rows)


def _code_version(run: TrainingLog) -> str:
    return f"{run.code or 'not recorded'} ({run.commit[:8]}{'+changes' * ('+' in run.commit)})"


def _changed_facts(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    if not one and not other:
        return ["not recorded"]
    return [
        f"{name} {one.get(name, 'not recorded')} -> {other.get(name, 'not recorded')}"
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]


def _curve(run: TrainingLog, name: str) -> list[tuple[int, float]]:
    return [(step, row[name]) for step, row in sorted(run.rows.items()) if name in row]


if __name__ == "__main__":
    run_command(main)
