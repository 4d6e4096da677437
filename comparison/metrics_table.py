"""Print metrics of evaluated runs side by side: python -m comparison.metrics_table RUN RUN ..."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.command_line import NoOptions, parse_words
from common.errors import UserError
from common.files import read_json
from common.metric_columns import COLUMNS
from common.run_main import run_command
from common.text_table import aligned
from common.user_paths import parse_path
from engine.upgrade_format_1 import WEIGHTS

# Runs may differ in these parts of the protocol and still be compared.
MAY_DIFFER = frozenset(["step", "weights", "seed", "device"])
MAX_FIGURE = 1e100
USAGE = """\
usage: python -m comparison.metrics_table RUN RUN [...]

Prints the metrics of runs that test.py has evaluated, one column for each run. Runs that were
evaluated differently (other images, sizes or features) are refused with the list of differences.
"""


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parsed = parse_words(arguments, NoOptions, USAGE)
    if parsed is None:
        return
    paths, _ = parsed
    if len(paths) < 2:
        raise UserError(USAGE.partition("\n")[0])
    measured = {path: read_metrics(parse_path(path)) for path in paths}
    first, *others = measured
    shared = [
        name for name in measured[first]["directions"]
        if all(name in measured[other]["directions"] for other in others)
    ]  # fmt: skip
    if not shared:
        raise UserError(
            f"{first} and {others[0]} have no direction in common: "
            f"{', '.join(measured[first]['directions'])}; {', '.join(measured[others[0]]['directions'])}",
            path=others[0],
        )
    for other in others:
        check_comparable(first, measured[first], other, measured[other], shared)
    print(side_by_side({
        path: {name: content["directions"][name] for name in shared}
        for path, content in measured.items()
    }))  # fmt: skip


def check_comparable(
    first: str, one: Mapping[str, Any], second: str, other: Mapping[str, Any],
    directions: Sequence[str],
) -> None:  # fmt: skip
    """Raise UserError where two runs were evaluated differently in one of the directions.

    `one` and `other` are what `read_metrics` returns for the runs `first` and `second`.
    """
    changes = differences(*(flat_protocol(content, directions) for content in (one, other)))
    if not changes:
        return
    advice = "evaluate both in the same way with test.py"
    if all(text.startswith(("fit is", "size is")) for text in changes):
        fit, size = one["protocol"].get("fit"), one["protocol"].get("size")
        command = f"python test.py {shlex.quote(second)} data.fit={fit}"
        advice = f"make them comparable with: {command} data.load_size={size} data.crop_size={size}"
    raise UserError(
        f"{first} and {second} were evaluated differently and cannot be compared: "
        f"{'; '.join(dict.fromkeys(changes))}; {advice}",
        path=second,
    )


def read_metrics(run: Path) -> dict[str, Any]:
    """Return what test.py wrote for a run.

    {"protocol": ..., "protocols": direction -> what belongs to it, "directions": direction ->
    metrics}. UserError where RUN/test/metrics.json is missing or damaged.
    """
    path = run / "test" / "metrics.json"
    try:
        content = read_json(path)
        directions = {name: _figures(metrics) for name, metrics in content["directions"].items()}
        protocol = dict(content["protocol"])
        protocol["weights"] = WEIGHTS.get(str(protocol.get("weights")), protocol.get("weights"))
        protocols = {name: dict(each) for name, each in content.get("protocols", {}).items()}
        return {"protocol": protocol, "protocols": protocols, "directions": directions}
    except FileNotFoundError:
        if not run.exists():
            raise UserError(
                f"no such run: {run}; python test.py RUN evaluates one", path=run
            ) from None
        raise UserError(
            f"{run} has no test/metrics.json; evaluate it with: python test.py {shlex.quote(str(run))}",
            path=run,
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; evaluate the run again", path=path) from None


def _figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of a direction; ValueError where one is no number that can be printed."""
    for name, value in metrics.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > MAX_FIGURE:
            raise ValueError(f"{name} is not a number")
        if name in ("images", "copies") and not isinstance(value, int):
            raise ValueError(f"{name} is not a count")
    return dict(metrics)


def flat_protocol(content: Mapping[str, Any], directions: Sequence[str] = ()) -> dict[str, Any]:
    """Return the protocol of a run with that of the directions (all, if none is named) in it."""
    stamps = content["protocols"]
    return content["protocol"] | {
        f"{direction}: {name}": value
        for direction in directions or stamps for name, value in stamps.get(direction, {}).items()
    }  # fmt: skip


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the differences of two protocols as texts; empty where the metrics can be compared."""
    return [
        f"{name} is {one.get(name, 'not recorded')} and {other.get(name, 'not recorded')}"
        for name in sorted({*one, *other} - MAY_DIFFER)
        if one.get(name) != other.get(name)
    ]


def side_by_side(runs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return a table with a row for each direction and metric, and a column for each run."""
    lines = [["", *runs]]
    for direction in dict.fromkeys(name for directions in runs.values() for name in directions):
        for key, (title, form) in COLUMNS.items():
            values = [directions.get(direction, {}).get(key) for directions in runs.values()]
            if any(value is not None for value in values):
                texts = ["-" if value is None else form.format(value) for value in values]
                lines.append([f"{direction} {title}", *texts])
    return aligned(lines)


if __name__ == "__main__":
    run_command(main)
