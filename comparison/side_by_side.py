"""Set the figures of evaluated runs side by side: python -m comparison.side_by_side RUN RUN ..."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.command import run_command
from common.command_line import NoOptions, parse_words
from common.errors import UserError
from common.metric_columns import COLUMNS
from common.text_table import aligned
from common.user_paths import parse_path

# What may differ between two measurements that can still be compared: it is what is compared.
FREE = frozenset(["step", "weights", "seed", "device"])
USAGE = """\
usage: python -m comparison.side_by_side RUN RUN [...]

Prints the figures of runs that test.py evaluated, a column each. Runs that were measured differently
(other images, sizes, or features) are not set side by side: what differs is said instead.
"""


def main(arguments: Sequence[str]) -> None:
    """Do what the command line asks for."""
    parsed = parse_words(arguments, NoOptions, USAGE)
    if parsed is None:
        return
    paths, _ = parsed
    if len(paths) < 2:
        raise UserError(USAGE.partition("\n")[0])
    measured = {path: read_metrics(parse_path(path)) for path in paths}
    first, *others = measured
    for other in others:
        found = differences(measured[first]["protocol"], measured[other]["protocol"])
        if found:
            raise UserError(
                f"{first} and {other} were measured differently and cannot be compared: {'; '.join(found)}"
            )
    print(side_by_side({path: content["directions"] for path, content in measured.items()}))


def read_metrics(run: Path) -> dict[str, Any]:
    """Return what test.py wrote for a run; UserError where there is nothing, or it is damaged."""
    path = run / "test" / "metrics.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        directions = {name: dict(figures) for name, figures in content["directions"].items()}
        return {"protocol": dict(content["protocol"]), "directions": directions}
    except FileNotFoundError:
        raise UserError(
            f"{run} has no test/metrics.json; evaluate it with: python test.py {run}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; evaluate the run again") from None


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return what two protocols disagree about, as text; nothing where figures can be compared."""
    return [
        f"{name} is {one.get(name, 'not said')} and {other.get(name, 'not said')}"
        for name in sorted({*one, *other} - FREE)
        if one.get(name) != other.get(name)
    ]


def side_by_side(runs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return a table: a row for each direction and figure, a column for each run."""
    lines = [["", *runs]]
    for direction in dict.fromkeys(d for figures in runs.values() for d in figures):
        for key, (title, form) in COLUMNS.items():
            values = [figures.get(direction, {}).get(key) for figures in runs.values()]
            if any(value is not None for value in values):
                lines.append(
                    [
                        f"{direction} {title}",
                        *("-" if v is None else form.format(v) for v in values),
                    ]
                )
    return aligned(lines)


if __name__ == "__main__":
    run_command(main)
