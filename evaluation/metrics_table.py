"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.metric_columns import COLUMNS
from common.text_table import aligned


def figures_table(
    figures: Mapping[str, Mapping[str, Any]], floor: Mapping[str, Mapping[str, float]] | None = None,
    ceiling: Mapping[str, Mapping[str, float]] | None = None,
) -> str:  # fmt: skip
    """Return the figures as a table for the terminal, a row a direction, floor and ceiling below it."""
    shown = [key for key in COLUMNS if any(key in row for row in figures.values())]
    cells = [["direction", *(COLUMNS[key][0] for key in shown)]]
    for direction, row in figures.items():
        cells.append([direction, *_texts(row, shown)])
        for label, rows in (("  real images", floor), ("  input copied", ceiling)):
            if rows and rows.get(direction):
                cells.append([label, *_texts(rows[direction], shown, missing="")])
    return aligned(cells)


def _texts(row: Mapping[str, Any], shown: Sequence[str], missing: str = "-") -> list[str]:
    values = (row.get(key) for key in shown)
    return [
        missing if v is None else COLUMNS[k][1].format(v)
        for k, v in zip(shown, values, strict=True)
    ]
