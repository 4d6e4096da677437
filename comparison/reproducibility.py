"""Say whether one training repeated another: python -m comparison.reproducibility RUN RUN [out=page.html]."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.command import run_command
from common.command_line import parse_words
from common.errors import UserError
from common.files import write_text
from common.text_table import aligned
from common.user_paths import page_path, parse_path
from comparison.curves import page
from comparison.training_log import TrainingLog, read_training_log
from options.help import shown
from options.resume_check import may_change

PLACES = ("data.root", "data.train", "data.test")  # where images lie, which says nothing of them
TOLERANCE = 1e-5  # of the larger value: some hundred roundings of a float32
USAGE = """\
usage: python -m comparison.reproducibility RUN RUN [tolerance=1e-5] [out=RUN/repeated.html]

Compares two trainings: whether code, images, options, versions and machine were the same, and whether what
was logged is equal bit for bit, equal but for rounding (no two values farther apart than
`tolerance` of the larger), or from which step on it is not. RUN is a run folder, or the folder of an
offline W&B run. The page shows the curves. Exit code 0: equal, or but for rounding; 1: they part.
"""


@dataclass(frozen=True)
class FirstDifference:
    """How one logged value of two runs differs."""

    name: str
    steps: int  # at which both have it
    bits: int | None  # the first step at which they are not the same number
    rounding: int | None  # the first step at which they are farther apart than rounding
    largest: float  # relative difference
    at: int  # the step of it


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    tolerance: float = TOLERANCE
    out: str = ""


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks for."""
    parsed = parse_words(arguments, Options, USAGE)
    if parsed is None:
        return 0
    paths, options = parsed
    if len(paths) != 2:
        raise UserError(
            "usage: python -m comparison.reproducibility RUN RUN [tolerance=1e-5] [out=page.html]"
        )
    tolerance = options.tolerance
    if not 0 <= tolerance < 1:
        raise UserError(
            f"tolerance must be at least 0 and below 1, got {tolerance}", option="tolerance"
        )
    one, other = (read_training_log(parse_path(path)) for path in paths)
    found = first_differences(one, other, tolerance)
    lines = [_experiment(one, other), "", _losses(found), "", verdict(one, other, found, tolerance)]
    print("\n".join(lines))
    beside = parse_path(paths[0])  # what the first path is may be a file, or in W&B
    usual = beside / "repeated.html" if beside.is_dir() else "repeated.html"
    out = page_path(options.out or usual)
    curves = {p.name: (_curve(one, p.name), _curve(other, p.name), p.rounding) for p in found}
    write_text(out, page(one.name, other.name, "\n".join(lines), curves))
    print(f"curves: {out}")
    return 0 if all(parting.rounding is None for parting in found) else 1


def first_differences(
    one: TrainingLog, other: TrainingLog, tolerance: float = TOLERANCE
) -> list[FirstDifference]:
    """Return how every value that both runs logged differs; UserError where there is none."""
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
        apart = [(relative_difference(x, y), step) for step, x, y in pairs]
        largest, at = max(apart, key=lambda pair: pair[0])
        bits = next((step for step, x, y in pairs if not equal_numbers(x, y)), None)
        rounding = next((step for far, step in apart if far > tolerance), None)
        found.append(FirstDifference(name, len(pairs), bits, rounding, largest, at))
    if not found:
        raise UserError(f"{one.name} and {other.name} have no logged step in common")
    return found


def equal_numbers(one: float, other: float) -> bool:
    """Say whether two values are one number, be it none at all."""
    return one == other or (math.isnan(one) and math.isnan(other))


def relative_difference(one: float, other: float) -> float:
    """Return how far two values are apart, as a share of the larger; infinite where one is no number."""
    if equal_numbers(one, other):
        return 0.0
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other))


def verdict(
    one: TrainingLog,
    other: TrainingLog,
    found: Sequence[FirstDifference],
    tolerance: float = TOLERANCE,
) -> str:
    """Return the answer in one sentence."""
    others = [name for name, lines in differences(one, other).items() if lines]
    what = (
        "another experiment"
        if set(others) & {"options", "images", "code"}
        else "the same experiment"
    )
    if others:
        what += f" (not the same: {', '.join(others)})"
    steps = max(parting.steps for parting in found)
    first = min((p.rounding for p in found if p.rounding is not None), default=None)
    bits = min((p.bits for p in found if p.bits is not None), default=None)
    lonely = len(one.rows.keys() ^ other.rows.keys())
    what += f"; {lonely} logged steps stand in one of them only" if lonely else ""
    if bits is None:
        return f"{what}: equal bit for bit at all {steps} logged steps"
    if first is None:
        return f"{what}: equal but for rounding ({tolerance:g} of a value), bit for bit before step {bits}"
    return f"{what}: they part at step {first} by more than {tolerance:g} of a value, in a bit at step {bits}"


def differences(one: TrainingLog, other: TrainingLog) -> dict[str, list[str]]:
    """Return what of two experiments is not the same, line by line; what is not recorded differs too."""
    options = {
        name: (one.options.get(name), other.options.get(name))
        for name in sorted({*one.options, *other.options})
        if not may_change(name)
        and not (name in PLACES and one.images and one.images == other.images)
    }
    return {
        "code": [] if one.code and one.code == other.code else [_code(one) + " -> " + _code(other)],
        "images": _unlike(one.images, other.images),
        "options": [f"{n} {shown(a)} -> {shown(b)}" for n, (a, b) in options.items() if a != b],
        "versions": _unlike(one.versions, other.versions),
        "machine": _unlike(one.machine, other.machine),
    }


def _experiment(one: TrainingLog, other: TrainingLog) -> str:
    lines = []
    for name, found in differences(one, other).items():
        lines.append(f"{name:<10}{'; '.join(found[:6]) if found else 'the same'}")
        lines[-1] += f"; and {len(found) - 6} more" if len(found) > 6 else ""
    return f"{one.name} and {other.name}\n" + "\n".join(lines)


def _losses(found: Sequence[FirstDifference]) -> str:
    rows = [["logged", "steps", "largest difference", "at step", "a bit from", "parts from"]]
    for p in found:
        apart = f"{p.largest:.2g}" if p.largest else "0"
        where = str(p.at) if p.largest else "-"
        rows.append([p.name, str(p.steps), apart, where, _step(p.bits), _step(p.rounding)])
    return aligned(rows)


def _step(step: int | None) -> str:
    return "-" if step is None else str(step)


def _code(run: TrainingLog) -> str:
    return f"{run.code or 'not recorded'} ({run.commit[:8]}{'+changes' * ('+' in run.commit)})"


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
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
