"""Sum up runs of several seeds: python -m comparison.seeds RUN RUN ... [markdown=true]."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from common.command import run_command
from common.command_line import parse_words
from common.errors import UserError
from common.metric_columns import COLUMNS
from common.text_table import aligned
from common.user_paths import parse_path
from comparison.side_by_side import differences, read_metrics
from options.load import saved_options
from options.resume_check import differing

SEPARATELY = ("step", "weights")  # runs of other lengths can be compared, but not averaged
PLUS_MINUS = " ± "
USAGE = """\
usage: python -m comparison.seeds RUN RUN [...] [markdown=true]

Prints mean and standard deviation (of a sample: n - 1) of what test.py measured of runs that differ in their
seed alone, such as those of train.py with seeds=[0,1,2]. Runs that were measured, or trained,
differently are refused: what differs is said instead.
"""


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    markdown: bool = False


def main(arguments: Sequence[str]) -> None:
    """Do what the command line asks for."""
    parsed = parse_words(arguments, Options, USAGE)
    if parsed is None:
        return
    words, options = parsed
    if not words:
        raise UserError(USAGE.partition("\n")[0])
    measured = {path: read_metrics(path) for path in map(parse_path, dict.fromkeys(words))}
    check_alike({path: content["protocol"] for path, content in measured.items()})
    check_trained_alike(list(measured))
    figures = [content["directions"] for content in measured.values()]
    rows = table(figures)
    print(as_markdown(rows) if options.markdown else aligned(rows))
    print("\n" + stamp(next(iter(measured.values()))["protocol"], measured))


def check_alike(protocols: Mapping[Path, Mapping[str, Any]]) -> None:
    """Raise UserError where runs were not measured in one way."""
    (first, stamp), *others = protocols.items()
    for other, protocol in others:
        found = differences(stamp, protocol)
        found += [
            f"{name} is {stamp.get(name)} and {protocol.get(name)}"
            for name in SEPARATELY
            if stamp.get(name) != protocol.get(name)
        ]
        if found:
            raise UserError(
                f"{first} and {other} were measured differently and have no common mean: {'; '.join(found)}"
            )


def check_trained_alike(runs: Sequence[Path]) -> None:
    """Raise UserError where the options of runs differ in more than the seed, or not even in that."""
    saved = {run: saved_options(run / "options.yaml") for run in runs}
    (first, options), *others = saved.items()
    for other, changed in others:
        found = [line for line in differing(options, changed) if not line.startswith("seed ")]
        if found:
            raise UserError(
                f"{first} and {other} are runs of other options and have no common mean: "
                f"{', '.join(found[:4])}"
            )
    seeds = [options.seed for options in saved.values()]
    if len({*seeds}) < len(seeds):
        raise UserError(f"two of these runs have one seed ({', '.join(map(str, sorted(seeds)))})")


def table(figures: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[list[str]]:
    """Return a row of texts for each direction and figure, with mean and deviation over the runs."""
    rows = [["", "mean ± sd" if len(figures) > 1 else "one run", "from", "to", "runs"]]
    for direction in dict.fromkeys(name for found in figures for name in found):
        for key, (title, form) in COLUMNS.items():
            values = [found.get(direction, {}).get(key) for found in figures]
            numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
            if not numbers or key == "images":
                continue
            ends = [form.format(value) for value in (min(numbers), max(numbers))]
            rows.append([f"{direction} {title}", _mean(numbers, form), *ends, str(len(numbers))])
    return rows


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of texts as a table of Markdown, the first as its head."""
    head, *body = [f"| {' | '.join(cell or ' ' for cell in row)} |" for row in rows]
    return "\n".join([head, "|---|" + "---:|" * (len(rows[0]) - 1), *body])


def stamp(protocol: Mapping[str, Any], runs: Mapping[Path, Any]) -> str:
    """Return by what protocol the figures were measured, as one line."""
    images = protocol.get("images")
    counts = ", ".join(f"{n} {d}" for d, n in images.items()) if isinstance(images, dict) else "?"
    said = {
        "runs": len(runs), "held-out images": f"{counts} ({protocol.get('fingerprint', '?')})",
        "size": protocol.get("size", "?"), "fit": protocol.get("fit", "?"),
        "step": protocol.get("step", "?"), "weights": protocol.get("weights", "?"),
        "features": protocol.get("features", "none"),
    }  # fmt: skip
    return "; ".join(f"{name}: {value}" for name, value in said.items())


def _mean(numbers: Sequence[float], form: str) -> str:
    if len(numbers) == 1:
        return form.format(numbers[0])
    number, unit = form.partition("}")[0] + "}", form.partition("}")[2]
    return number.format(mean(numbers)) + PLUS_MINUS + number.format(stdev(numbers)) + unit


if __name__ == "__main__":
    run_command(main)
