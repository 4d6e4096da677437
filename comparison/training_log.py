"""What is recorded of a training, in its run folder or in an offline W&B run, in one form."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from engine.format_1 import upgrade_option, upgrade_options
from engine.run_record import read_sessions
from engine.tracking.wandb_offline import is_offline, read_offline
from options.config import TrainOptions
from options.load import saved_options, to_dict
from options.presets import flatten

# Of the clock or the count, not of the learning.
UNCOMPARED = (
    "step",
    "images",
    "epoch",
    "seconds",
    "perf/",
    "time/",
    "lr",
    "_",
    "previews/",
    "best/",
)
MACHINE = ("device", "gpu", "processor", "cores", "threads", "platform")


@dataclass(frozen=True)
class TrainingLog:
    """A training as it was written down; what was not is empty."""

    name: str
    code: str
    commit: str
    images: dict[str, str]  # split -> fingerprint
    options: dict[str, Any]  # by dotted name
    versions: dict[str, str]
    machine: dict[str, Any]
    rows: dict[int, dict[str, float]]  # step -> loss, score, norm or rate -> value


def read_training_log(path: Path) -> TrainingLog:
    """Return what a run folder, or an offline W&B run's folder or file, says of its training."""
    if is_offline(path):
        found = read_offline(path)
        known = {field.name for field in dataclasses.fields(TrainOptions)}
        options = {
            n: value for n, value in found.config.items() if upgrade_option(n, None)[0] in known
        }
        return _recorded(str(path), found.config, options, found.history, "_step")
    if not (path / "options.yaml").is_file():
        raise UserError(f"{path} is no run: it has no options.yaml; train.py makes one")
    sessions = read_sessions(path)
    options = to_dict(saved_options(path / "options.yaml"))
    return _recorded(str(path), sessions[0] if sessions else {}, options, _lines(path), "step")


def _recorded(
    name: str, facts: Mapping[str, Any], options: Mapping[str, Any], rows: list[dict[str, Any]],
    count: str,
) -> TrainingLog:  # fmt: skip
    images, packages = (facts.get(key) for key in ("data_fingerprint", "packages"))
    versions = {"python": facts.get("python"), **(packages if isinstance(packages, dict) else {})}
    return TrainingLog(
        name=name,
        code=str(facts.get("code", "")),
        commit=str(facts.get("git_commit", "")),
        images={str(s): str(f) for s, f in images.items()} if isinstance(images, dict) else {},
        options=upgrade_options(flatten(options)),
        versions={str(key): str(value) for key, value in versions.items() if value},
        machine={key: facts[key] for key in MACHINE if key in facts},
        rows={row[count]: _numbers(row) for row in rows if isinstance(row.get(count), int)},
    )


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what was measured, under the names of metrics.jsonl."""
    return {
        name.removeprefix("loss/"): value
        for name, value in row.items()
        if isinstance(value, int | float) and not name.startswith(UNCOMPARED)
    }


def _lines(run: Path) -> list[dict[str, Any]]:
    path, rows = run / "metrics.jsonl", []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows += [row] if isinstance(row, dict) else []
    except FileNotFoundError:
        raise UserError(f"{run} has no metrics.jsonl; train it first") from None
    except (OSError, ValueError):
        if not rows:
            raise UserError(f"{path} is damaged") from None
    return rows  # a torn last line is one that a crash cut off
