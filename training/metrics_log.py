"""RUN/metrics.jsonl: the record of what was logged, a line a step."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.files import write_text


class MetricsLog:
    """RUN/metrics.jsonl: one JSON object a line, handed to the system when `write` returns."""

    def __init__(self, path: Path, from_step: int) -> None:
        """Drop the lines after `from_step`, which will be computed again, and a torn last one."""
        self.path = path
        for stale in path.parent.glob(f".{path.name}.*.tmp"):
            stale.unlink(missing_ok=True)
        if path.exists():
            kept = [line for line in _lines(path) if _step_of(line) <= from_step]
            write_text(path, "".join(line + "\n" for line in kept))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one line, whole or, where the disk is full, not at all: then OSError is raised."""
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError:
            os.truncate(self.path, before)
            raise


def read_rows(path: Path, until: int) -> Iterator[dict[str, Any]]:
    """Yield the whole rows of a file up to a step; nothing where there is none."""
    try:
        lines = _lines(path)
    except OSError:
        return
    for line in lines:
        if _step_of(line) <= until:
            yield json.loads(line)


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; a byte that is no text spoils its line alone."""
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # the torn last line of a killed run
