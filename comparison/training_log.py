"""Read the record of a training run from its run folder or from an offline W&B run."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import read_text
from engine.loss_names import role_name
from engine.provenance_files import read_sessions
from engine.tracking.offline_run_reader import is_offline, read_offline
from engine.upgrade_format_1 import LOGGED, upgrade_option, upgrade_options
from options.config import TrainOptions
from options.load import saved_options, to_dict
from options.presets import flatten

# Prefixes of logged names that measure time or count steps, and not the training itself.
MAX_VALUE = 1e300  # larger integers are no floats; NaN and infinity are compared
NOT_COMPARED = (
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
MACHINE_FACTS = ("device", "gpu", "processor", "cores", "threads", "platform")


@dataclass(frozen=True)
class TrainingLog:
    """The record of a training run; facts that were not recorded are empty."""

    name: str
    code: str
    commit: str
    images: dict[str, str]  # split -> fingerprint
    options: dict[str, Any]  # by dotted name
    versions: dict[str, str]
    machine: dict[str, Any]
    rows: dict[int, dict[str, float]]  # step -> name of a loss (by role), score, norm -> value
    domains: list[str]


def read_training_log(path: Path) -> TrainingLog:
    """Return the record of the run at `path`: a run folder, or an offline W&B run's folder or file.

    UserError where `path` is not a run, or where its metrics.jsonl is missing or damaged.
    """
    if is_offline(path):
        offline = read_offline(path)
        known = {field.name for field in dataclasses.fields(TrainOptions)}
        options = {
            name: value
            for name, value in offline.config.items()
            if upgrade_option(name, None)[0] in known
        }
        return _training_log(str(path), offline.config, options, offline.history, "_step")
    if not (path / "options.yaml").is_file():
        raise UserError(
            f"{path} is not a run: it has no options.yaml; name a run folder of train.py", path=path
        )
    sessions = read_sessions(path)
    facts = sessions[0] if sessions else {}
    options = to_dict(saved_options(path / "options.yaml"))
    return _training_log(str(path), facts, options, _read_rows(path), "step")


def _training_log(
    name: str, facts: Mapping[str, Any], options: Mapping[str, Any], rows: list[dict[str, Any]],
    step_key: str,
) -> TrainingLog:  # fmt: skip
    """Build a log; `step_key` is the key under which a row holds its step."""
    images, packages = (facts.get(key) for key in ("data_fingerprint", "packages"))
    upgraded = upgrade_options(flatten(options))
    domains = [str(domain) for domain in upgraded.get("data.domains") or []]
    versions = {"python": facts.get("python"), **(packages if isinstance(packages, dict) else {})}
    return TrainingLog(
        name=name,
        code=str(facts.get("code", "")),
        commit=str(facts.get("git_commit", "")),
        images={str(s): str(f) for s, f in images.items()} if isinstance(images, dict) else {},
        options=upgraded,
        versions={str(key): str(value) for key, value in versions.items() if value},
        machine={key: facts[key] for key in MACHINE_FACTS if key in facts},
        rows={
            row[step_key]: _numbers(row, domains)
            for row in rows
            if isinstance(row.get(step_key), int) and abs(row[step_key]) < MAX_VALUE
        },
        domains=domains,
    )


def _numbers(row: Mapping[str, Any], domains: Sequence[str]) -> dict[str, float]:
    """Return the compared values of a row; losses under the names that methods give them."""
    return {
        role_name(LOGGED.get(name, name).removeprefix("loss/"), domains): value
        for name, value in row.items()
        if isinstance(value, int | float)
        and not (isinstance(value, int) and abs(value) > MAX_VALUE)
        and not name.startswith(NOT_COMPARED)
    }


def _read_rows(run: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl before its first damaged line.

    A crash cuts the last line off. UserError where the file is missing or its first line is
    damaged.
    """
    path, rows = run / "metrics.jsonl", []
    try:
        for line in read_text(path).splitlines():
            row = json.loads(line)
            rows += [row] if isinstance(row, dict) else []
    except FileNotFoundError:
        raise UserError(f"{run} has no metrics.jsonl; train it first", path=run) from None
    except (OSError, ValueError, RecursionError):
        if not rows:
            raise UserError(f"{path} is damaged; name another run", path=path) from None
    return rows
