"""Average metrics over several seeds: python -m comparison.seeds RUN ... [markdown=true]."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from common.command_line import parse_words
from common.errors import UserError
from common.metric_columns import COLUMNS
from common.run_main import run_command
from common.text_table import aligned
from common.user_paths import parse_path
from comparison.metrics_table import differences, flat_protocol, read_metrics
from options.load import saved_options
from options.resume_check import differing

# Parts of the protocol that may differ between compared runs, and not between averaged ones.
EQUAL_FOR_MEAN = ("step", "weights")
PLUS_MINUS = " ± "
USAGE = """\
usage: python -m comparison.seeds RUN RUN [...] [markdown=true]

Prints mean and sample standard deviation (n - 1) of the metrics that test.py measured for runs that
differ only in their seed, such as those of train.py with seeds=[0,1,2]. Runs that were trained or
evaluated differently are refused with the list of differences. markdown=true prints Markdown.
"""


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    markdown: bool = False


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parsed = parse_words(arguments, Options, USAGE)
    if parsed is None:
        return
    words, options = parsed
    if not words:
        raise UserError(USAGE.partition("\n")[0])
    measured = {path: read_metrics(path) for path in map(parse_path, dict.fromkeys(words))}
    check_same_protocol({path: flat_protocol(content) for path, content in measured.items()})
    check_same_training(list(measured))
    rows = mean_table([content["directions"] for content in measured.values()])
    print(as_markdown(rows) if options.markdown else aligned(rows))
    print("\n" + protocol_line(next(iter(measured.values())), measured))


def check_same_protocol(protocols: Mapping[Path, Mapping[str, Any]]) -> None:
    """Raise UserError where the runs were not all evaluated in the same way."""
    (first, expected), *others = protocols.items()
    for other, protocol in others:
        changes = differences(expected, protocol)
        changes += [
            f"{name} is {expected.get(name)} and {protocol.get(name)}"
            for name in EQUAL_FOR_MEAN
            if expected.get(name) != protocol.get(name)
        ]
        if changes:
            raise UserError(
                f"{first} and {other} were evaluated differently and cannot be averaged: "
                f"{'; '.join(changes)}; evaluate both in the same way with test.py",
                path=other,
            )


def check_same_training(runs: Sequence[Path]) -> None:
    """Raise UserError where runs differ in an option besides the seed, or two share a seed."""
    saved = {run: saved_options(run / "options.yaml") for run in runs}
    (first, options), *others = saved.items()
    for other, other_options in others:
        changes = [x for x in differing(options, other_options) if not x.startswith("seed ")]
        if changes:
            raise UserError(
                f"{first} and {other} have different options and cannot be averaged: "
                f"{', '.join(changes[:4])}; name runs that differ only in their seed",
                option=changes[0].partition(" ")[0],
                path=other,
            )
    seeds = [options.seed for options in saved.values()]
    if len({*seeds}) < len(seeds):
        raise UserError(
            f"two of these runs have the same seed ({', '.join(map(str, sorted(seeds)))}); "
            "name runs of different seeds",
            option="seed",
        )


def mean_table(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[list[str]]:
    """Return a table of texts: a row for each direction and metric, averaged over the runs.

    `runs` holds direction -> metrics of each run. The columns are mean and sample standard
    deviation, smallest and largest value, and the number of runs that have the metric.
    """
    rows = [["", "mean ± sd" if len(runs) > 1 else "one run", "from", "to", "runs"]]
    for direction in dict.fromkeys(name for directions in runs for name in directions):
        for key, (title, form) in COLUMNS.items():
            values = [directions.get(direction, {}).get(key) for directions in runs]
            numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
            if not numbers or key == "images":
                continue
            extremes = [form.format(value) for value in (min(numbers), max(numbers))]
            average = _mean_and_deviation(numbers, form)
            rows.append([f"{direction} {title}", average, *extremes, str(len(numbers))])
    return rows


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of texts as a Markdown table; the first row is its head."""
    head, *body = [f"| {' | '.join(cell or ' ' for cell in row)} |" for row in rows]
    return "\n".join([head, "|---|" + "---:|" * (len(rows[0]) - 1), *body])


def protocol_line(measured: Mapping[str, Any], runs: Mapping[Path, Any]) -> str:
    """Return the protocol of an evaluation and the number of runs in one line."""
    protocol, stamps = measured["protocol"], measured["protocols"].values()
    images = {domain: n for stamp in stamps for domain, n in stamp.get("images", {}).items()}
    counts = ", ".join(f"{n} {domain}" for domain, n in images.items()) or "?"
    prints = ", ".join(dict.fromkeys(stamp.get("fingerprint", "?") for stamp in stamps)) or "?"
    facts = {
        "runs": len(runs), "held-out images": f"{counts} ({prints})",
        "size": protocol.get("size", "?"), "fit": protocol.get("fit", "?"),
        "step": protocol.get("step", "?"), "weights": protocol.get("weights", "?"),
        "features": protocol.get("features", "none"),
    }  # fmt: skip
    return "; ".join(f"{name}: {value}" for name, value in facts.items())


def _mean_and_deviation(numbers: Sequence[float], form: str) -> str:
    if len(numbers) == 1:
        return form.format(numbers[0])
    number, unit = form.partition("}")[0] + "}", form.partition("}")[2]
    return number.format(mean(numbers)) + PLUS_MINUS + number.format(stdev(numbers)) + unit


if __name__ == "__main__":
    run_command(main)
