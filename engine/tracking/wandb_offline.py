"""Read what an offline W&B run left on the disk: its configuration, its history and how it ended.

A `.wandb` file is a header of seven bytes and then a log as LevelDB writes it: blocks of 32 KiB with
parts of records, each behind a checksum, a length and which part it is.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from engine.tracking.wandb_run import import_record_types

BLOCK, HEADER, MAGIC = 32768, 7, b":W&B"
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MAX_BYTES = 2**30  # bytes of a record, and of a file: a run's log has some megabytes


@dataclass
class OfflineRun:
    """What one file holds."""

    run_id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)  # of a metric: what it is drawn over
    files: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    preempting: bool = False
    exit_code: int | None = None


def is_offline(path: Path) -> bool:
    """Say whether a path is a .wandb file, or the folder of one."""
    try:
        return path.suffix == ".wandb" or (path.is_dir() and any(path.glob("run-*.wandb")))
    except OSError:  # no path at all, such as a name that is too long
        return False


def read_offline(path: Path) -> OfflineRun:
    """Return what a .wandb file, or the folder with one, holds; what is damaged ends it.

    UserError where it is no such file.
    """
    file = next(iter(sorted(path.glob("run-*.wandb"))), path) if path.is_dir() else path
    found = OfflineRun()
    try:
        for content in records(file):
            _take(found, import_record_types().Record.FromString(content))
    except UserError:
        raise
    except Exception as error:  # protobuf's own, JSON's and the disk's
        raise UserError(f"{file}: no W&B log that can be read ({type(error).__name__})") from None
    return found


def records(file: Path) -> Iterator[bytes]:
    """Yield the records of a log, whole ones only; UserError where the file is none."""
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise UserError(f"{file}: no file of an offline W&B run")
    content = file.read_bytes()
    if content[:4] != MAGIC:
        raise UserError(f"{file}: no file of an offline W&B run")
    place, parts = HEADER, b""
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:  # too little for another part: padding
            place += left
            continue
        checksum, length, part = struct.unpack_from("<IHB", content, place)
        place += HEADER
        body = content[place : place + length]
        if (
            part not in (FULL, FIRST, MIDDLE, LAST)
            or zlib.crc32(body, zlib.crc32(bytes([part]))) != checksum
        ):
            return  # the torn tail of a run that was killed, or what a disk made of it
        place += length
        parts = body if part in (FULL, FIRST) else parts + body
        if part in (FULL, LAST):
            yield parts


def _take(found: OfflineRun, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        run = record.run
        found.run_id, found.name, found.project = run.run_id, run.display_name, run.project
        found.group, found.job_type, found.notes = run.run_group, run.job_type, run.notes
        found.tags = list(run.tags)
        found.config |= _values(run.config.update)
    elif kind == "config":
        found.config |= _values(record.config.update)
    elif kind == "history":
        found.history.append(_values(record.history.item))
    elif kind == "summary":
        found.summary |= _values(record.summary.update)
    elif kind == "metric":
        name = record.metric.name or record.metric.glob_name
        found.axes[name] = record.metric.step_metric
    elif kind == "files":
        found.files += [entry.path for entry in record.files.files]
    elif kind == "artifact":
        found.artifacts.append(record.artifact.name)
    elif kind == "alert":
        found.alerts.append(record.alert.title)
    elif kind == "preempting":
        found.preempting = True
    elif kind == "exit":
        found.exit_code = record.exit.exit_code


def _values(items: Any) -> dict[str, Any]:
    return {
        ".".join(item.nested_key) if item.nested_key else item.key: json.loads(item.value_json)
        for item in items
    }
