"""Format the metrics of an evaluation as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.metric_columns import COLUMNS
from common.text_table import aligned
from evaluation.results import EvaluationResult


def metrics_table(result: EvaluationResult) -> str:
    """Return a table with a row for each direction, and below it the rows of its two baselines."""
    directions = result.directions
    shown = [key for key in COLUMNS if any(key in each.metrics for each in directions.values())]
    rows = [["direction", *(COLUMNS[key][0] for key in shown)]]
    for direction, each in directions.items():
        rows.append([direction, *_texts(each.metrics, shown)])
        baselines = {"  real images": each.real_baseline, "  input copied": each.copy_baseline}
        for label, metrics in baselines.items():
            if metrics:
                rows.append([label, *_texts(metrics, shown, missing="")])
    return aligned(rows)


def _texts(metrics: Mapping[str, Any], shown: Sequence[str], missing: str = "-") -> list[str]:
    values = (metrics.get(key) for key in shown)
    return [
        missing if v is None else COLUMNS[k][1].format(v)
        for k, v in zip(shown, values, strict=True)
    ]
