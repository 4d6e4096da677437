"""Write and read RUN/metrics.jsonl: the values of each logged step."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.files import not_through_a_link, read_text, write_text


class MetricsLog:
    """RUN/metrics.jsonl: one JSON object a line, flushed to the system when `write` returns."""

    def __init__(self, path: Path, from_step: int) -> None:
        """Remove lines after `from_step`, whose steps are repeated, and an incomplete last line."""
        self.path = path
        for stale in path.parent.glob(f".{path.name}.*.tmp"):
            stale.unlink(missing_ok=True)
        if path.exists():
            lines = [line for line in _lines(path) if _step_of(line) <= from_step]
            write_text(path, "".join(line + "\n" for line in lines))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one line; if the disk is full, raise OSError and leave no part of the line."""
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "a", encoding="utf-8", opener=not_through_a_link) as file:
                file.write(json.dumps(row) + "\n")
        except OSError:
            os.truncate(self.path, size)
            raise


def read_rows(path: Path, until: int) -> Iterator[dict[str, Any]]:
    """Yield the complete rows of a file up to step `until`; nothing if the file cannot be read."""
    try:
        lines = _lines(path)
    except OSError:
        return
    for line in lines:
        if _step_of(line) <= until:
            yield json.loads(line)


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; a byte that is not UTF-8 makes only its own line invalid."""
    return read_text(path, "surrogateescape").splitlines()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return math.inf  # the incomplete last line of a killed run
