"""Hold the results of an evaluation, and write them to RUN/test/metrics.json."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from common.files import write_text
from data.config import DataConfig
from inference.open_run import Run


@dataclass(frozen=True)
class EvaluatedImage:
    """A held-out image, its translation and metrics; images are [1, C, H, W] uint8 on the CPU."""

    name: str
    real: Tensor
    fake: Tensor
    restored: Tensor | None  # where the run has the inverse direction
    truth: Tensor | None  # where the true translation is known
    metrics: dict[str, float | None]


@dataclass
class DirectionResult:
    """The metrics and sample images of one direction."""

    metrics: dict[str, Any]  # name -> value over all images
    intervals: dict[str, list[float]] = field(default_factory=dict)  # name -> 95 % interval
    real_baseline: dict[str, float] = field(default_factory=dict)  # set metrics of real images
    copy_baseline: dict[str, float] = field(default_factory=dict)  # set metrics of the inputs
    image_metrics: list[tuple[str, dict[str, float | None]]] = field(default_factory=list)
    shown: list[EvaluatedImage] = field(default_factory=list)  # a sample for the report
    worst: dict[str, list[EvaluatedImage]] = field(default_factory=dict)  # by metric
    copies: list[dict[str, Any]] = field(default_factory=list)  # fakes nearest to training images
    protocol: dict[str, Any] = field(default_factory=dict)  # its images, and the reference
    notes: list[str] = field(default_factory=list)  # why a metric is missing
    style_sheet: np.ndarray | None = None  # sources in the styles of references, uint8 [H, W, 3]


@dataclass
class EvaluationResult:
    """The results of all directions, and what their protocols have in common."""

    protocol: dict[str, Any]
    directions: dict[str, DirectionResult]
    leaks: list[dict[str, Any]] = field(default_factory=list)  # images on both sides of a split
    skipped: dict[str, str] = field(default_factory=dict)  # file that was passed over -> reason

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Return direction -> metrics."""
        return {name: result.metrics for name, result in self.directions.items()}


def write_metrics(run: Run, result: EvaluationResult, data: DataConfig) -> Path:
    """Write RUN/test/metrics.json and return its path."""

    def by_direction(attribute: str) -> dict[str, Any]:
        return {name: getattr(each, attribute) for name, each in result.directions.items()}

    content = {
        "run": run.path.name, "notes": run.options.method.notes(),
        "directions": by_direction("metrics"), "intervals": by_direction("intervals"),
        "floor": by_direction("real_baseline"), "ceiling": by_direction("copy_baseline"),
        "copies": by_direction("copies"), "leaks": result.leaks, "skipped": result.skipped,
        "protocol": result.protocol, "protocols": by_direction("protocol"), "data": asdict(data),
    }  # fmt: skip
    path = run.path / "test" / "metrics.json"
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path
