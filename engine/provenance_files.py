"""Record the origin of a run for others to repeat it: provenance.json, data.json and code.diff."""

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import read_json, write_atomically, write_text
from common.progress import with_progress
from common.run_main import print_line
from data.config import DataConfig
from data.fingerprint import (
    Fingerprint,
    Images,
    changed_names,
    dataset_fingerprint,
    from_json,
    hash_files,
    recorded_name,
    to_json,
)
from data.folders import find_split, folder_of
from data.groups import group_names
from engine.checkpoint import Checkpoints
from engine.provenance import code_changes, provenance

FORMAT = 1
PROVENANCE, DATA, CHANGES = "provenance.json", "data.json", "code.diff"
Splits = dict[str, dict[str, Images]]
"""Split (train, validation, test; those that exist) -> domain -> images."""


def record_run(
    run: Path, step: int, files: Mapping[str, Sequence[Path]], config: DataConfig,
    hash_mode: Fingerprint, machine: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Record the code, data and machine of a run that is at `step`; return them by name.

    `files` maps domain -> training images, `machine` holds `Runtime.describe()`. Each start adds a
    session to provenance.json. A resumed run keeps the data.json that it began with; a line is
    printed where its images or its code have changed since.
    """
    began = read_data(run)
    splits = hash_splits(files, config, hash_mode, began)
    facts = {**provenance(), **machine, "data_fingerprint": fingerprints(splits)}
    sessions = read_sessions(run) if step else []
    if sessions and began:
        for note in changes_since_start(began, splits, sessions[0], facts):
            print_line(f"note: {note}")
    else:
        content = {"format": FORMAT, "looked_at": hash_mode, "fingerprint": fingerprints(splits)}
        images = {split: to_json(domains) for split, domains in splits.items()}
        content["formats"] = {domain: asdict(form) for domain, form in config.formats().items()}
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
    files: Mapping[str, Sequence[Path]], config: DataConfig, hash_mode: Fingerprint, known: Splits
) -> Splits:
    """Return the hashes of the training images `files`, and of validation and test images.

    Files that `known` holds with the same size and date are not read again.
    """
    wanted: dict[str, Mapping[str, Sequence[Path]]] = {"train": files}
    if config.validation:
        wanted["validation"] = find_split(config, "validation")
    with contextlib.suppress(UserError):  # test images are optional
        wanted["test"] = find_split(replace(config, limit=0), "test")
    splits: Splits = {}
    for split, domains in wanted.items():
        splits[split] = {}
        for domain, paths in domains.items():
            label = f"hashing {domain} ({split})"

            def progress(names: Iterable[str], total: int, label: str = label) -> Iterable[str]:
                return with_progress(names, total, label)

            folder = folder_of(config, "test" if split == "test" else "train", domain)
            before = known.get(split, {}).get(domain)
            splits[split][domain] = hash_files(folder, paths, hash_mode, before, progress)
    return splits


def fingerprints(splits: Splits) -> dict[str, str]:
    """Return split -> the fingerprint of its images."""
    return {split: dataset_fingerprint(images) for split, images in splits.items()}


def changes_since_start(
    began: Splits, now: Splits, then: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[str]:
    """Return one line for each domain of a split, and for the code, that has changed since."""
    lines = []
    for split, domains in began.items():
        for domain, images in domains.items():
            changed = changed_names(images, now.get(split, {}).get(domain, {}))
            if changed:
                lines.append(
                    f"{len(changed)} {split} images of {domain} "
                    "are not those that the run began with "
                    f"({', '.join(changed[:3])}{' ...' if changed[3:] else ''})"
                )
    if then.get("code") != facts["code"]:
        lines.append("the code is not the one that the run began with; provenance.json has both")
    return lines


def images_that_differ(run: Path, config: DataConfig, hash_mode: Fingerprint) -> list[str]:
    """Return a line for each domain whose images are not those in a run's data.json; often none.

    Every file is hashed. Test images are compared only if there are any now.
    """
    began = read_data(run)
    if not began:
        return ["data.json is missing, so they cannot be compared"]
    now = hash_splits(find_split(config, "train"), config, hash_mode, {})
    began = {split: domains for split, domains in began.items() if split in now}
    return changes_since_start(began, now, {}, {"code": None})


def read_data(run: Path) -> Splits:
    """Return the image hashes in a run's data.json; {} where it is missing or damaged."""
    content = _read(run / DATA).get("images")
    if not isinstance(content, dict):
        return {}
    return {str(split): from_json(images) for split, images in content.items()}


def epoch_images_at_start(run: Path) -> int:
    """Return how many images the largest domain had when a saved run began; 0 if unknown.

    An epoch keeps that length: a run stays as long as planned, even if its folders change.
    """
    if not Checkpoints(run / "checkpoints").exist():
        return 0
    return max((len(images) for images in read_data(run).get("train", {}).values()), default=0)


def held_out_at_start(run: Path, config: DataConfig) -> dict[str, set[str]] | None:
    """Return domain -> recorded names of the images that a run held out when it began.

    Images that were added since change what data.validation chooses. None if it is not known.
    """
    recorded = read_data(run).get("validation", {})
    if not all(recorded.get(domain) for domain in config.domains):
        return None
    return {domain: set(recorded[domain]) for domain in config.domains}


def keep_held_out(
    run: Path, config: DataConfig, train: Mapping[str, list[Path]],
    validation: Mapping[str, list[Path]],
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:  # fmt: skip
    """Return the training and validation images of a continued run: what it held out stays so.

    New images of a group (data.group) that was held out are held out too.
    """
    recorded = held_out_at_start(run, config)
    if recorded is None:
        return dict(train), dict(validation)
    kept: tuple[dict[str, list[Path]], dict[str, list[Path]]] = {}, {}
    for domain in train:
        folder = folder_of(config, "train", domain)
        files = sorted([*train[domain], *validation[domain]], key=os.fsencode)
        held_out = {file for file in files if recorded_name(file, folder) in recorded[domain]}
        if config.group:
            groups = group_names(files, folder, config.group)
            held_groups = {groups[file] for file in held_out}
            held_out = {file for file in files if groups[file] in held_groups}
        kept[0][domain] = [file for file in files if file not in held_out]
        kept[1][domain] = [file for file in files if file in held_out]
    return kept


def read_sessions(run: Path) -> list[dict[str, Any]]:
    """Return the sessions in provenance.json, one for each start of the run, in order."""
    sessions = _read(run / PROVENANCE).get("sessions")
    valid = isinstance(sessions, list) and all(isinstance(session, dict) for session in sessions)
    return [dict(session) for session in sessions] if valid and sessions else []


def _write_changes(
    run: Path, step: int, facts: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]]
) -> None:
    """Write the code's difference to its commit, once for each version of the code in the run."""
    if not sessions:
        for stale in run.glob("code*.diff"):  # of an abandoned experiment
            stale.unlink(missing_ok=True)
    if facts["code"] in [session.get("code") for session in sessions]:
        return
    if difference := code_changes():
        path = run / (CHANGES if not sessions else f"code_{step:08d}.diff")
        write_atomically(path, lambda file: file.write(difference))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
