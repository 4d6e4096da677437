"""What a run says of itself, so that others can repeat it: provenance.json, data.json and code.diff."""

import contextlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.command import print_line
from common.errors import UserError
from common.files import write_atomically, write_text
from common.progress import with_progress
from data.config import DataConfig
from data.fingerprint import (
    Fingerprint,
    Images,
    changed_names,
    dataset_fingerprint,
    from_json,
    hash_files,
    to_json,
)
from data.folders import find_split, folder_of
from engine.checkpoint import Checkpoints
from engine.provenance import code_changes, provenance

FORMAT = 1
PROVENANCE, DATA, CHANGES = "provenance.json", "data.json", "code.diff"
Splits = dict[str, dict[str, Images]]
"""train, validation and test, where they are -> domain -> images."""


def record_run(
    run: Path, step: int, files: Mapping[str, Sequence[Path]], config: DataConfig, how: Fingerprint,
    machine: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write down the code, the data and the machine of a run that is at `step`, and return it as facts.

    A run that is continued keeps what it began with; that its images, or its code, are others by now
    is said in a line, and recorded.
    """
    began = read_data(run)
    splits = hash_splits(files, config, how, began)
    facts = {**provenance(), **machine, "data_fingerprint": fingerprints(splits)}
    sessions = read_sessions(run) if step else []
    if sessions and began:
        for note in changes_since_start(began, splits, sessions[0], facts):
            print_line(f"note: {note}")
    else:
        content = {"format": FORMAT, "looked_at": how, "fingerprint": fingerprints(splits)}
        images = {split: to_json(found) for split, found in splits.items()}
        write_text(run / DATA, json.dumps(content | {"images": images}, indent=1) + "\n")
    _write_changes(run, step, facts, sessions)
    session = {
        "step": step, "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", *sys.argv], **facts,
    }  # fmt: skip
    content = {"format": FORMAT, "sessions": [*sessions, session]}
    write_text(run / PROVENANCE, json.dumps(content, indent=1) + "\n")
    return facts


def hash_splits(
    files: Mapping[str, Sequence[Path]], config: DataConfig, how: Fingerprint, known: Splits
) -> Splits:
    """Return what the training images `files`, those kept out of them, and the held-out ones are."""
    wanted: dict[str, Mapping[str, Sequence[Path]]] = {"train": files}
    if config.validation:
        wanted["validation"] = find_split(config, "validation")
    with contextlib.suppress(UserError):  # a run needs none
        wanted["test"] = find_split(replace(config, limit=0), "test")
    found: Splits = {}
    for split, domains in wanted.items():
        found[split] = {}
        for domain, paths in domains.items():
            label = f"looking at {domain} ({split})"

            def shown(names: Iterable[str], total: int, label: str = label) -> Iterable[str]:
                return with_progress(names, total, label)

            folder = folder_of(config, "test" if split == "test" else "train", domain)
            before = known.get(split, {}).get(domain)
            found[split][domain] = hash_files(folder, paths, how, before, shown)
    return found


def fingerprints(splits: Splits) -> dict[str, str]:
    """Return the short name of each split."""
    return {split: dataset_fingerprint(images) for split, images in splits.items()}


def changes_since_start(
    began: Splits, now: Splits, then: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[str]:
    """Return a line for each thing that is no longer as it was when the run began."""
    lines = []
    for split, domains in began.items():
        for domain, images in domains.items():
            others = changed_names(images, now.get(split, {}).get(domain, {}))
            if others:
                lines.append(
                    f"{len(others)} {split} images of {domain} are not those that the run began with "
                    f"({', '.join(others[:3])}{' ...' if others[3:] else ''})"
                )
    if then.get("code") != facts["code"]:
        lines.append("the code is not the one that the run began with; provenance.json has both")
    return lines


def read_data(run: Path) -> Splits:
    """Return what data.json says of a run's images; nothing where there is none or it is damaged."""
    content = _read(run / DATA).get("images")
    if not isinstance(content, dict):
        return {}
    return {str(split): from_json(images) for split, images in content.items()}


def epoch_images_at_start(run: Path) -> int:
    """Return how many images the largest domain had when a run with checkpoints began; 0 if unknown.

    What an epoch is stays what it was: a run is as long as it was planned, whatever becomes of its data.
    """
    if not Checkpoints(run / "checkpoints").exist():
        return 0
    return max((len(images) for images in read_data(run).get("train", {}).values()), default=0)


def read_sessions(run: Path) -> list[dict[str, Any]]:
    """Return what provenance.json says of each time that a run was started, the first first."""
    sessions = _read(run / PROVENANCE).get("sessions")
    valid = isinstance(sessions, list) and all(isinstance(session, dict) for session in sessions)
    return [dict(session) for session in sessions] if valid and sessions else []


def _write_changes(
    run: Path, step: int, facts: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]]
) -> None:
    """Keep how the code differs from its commit, once for each code that the run has seen."""
    if not sessions:
        for stale in run.glob("code*.diff"):  # of an experiment that was given up
            stale.unlink(missing_ok=True)
    if facts["code"] in [session.get("code") for session in sessions]:
        return
    if difference := code_changes():
        path = run / (CHANGES if not sessions else f"code_{step:08d}.diff")
        write_atomically(path, lambda file: file.write(difference))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
