"""Read the file of an offline W&B run: its configuration, its history and how it ended.

A `.wandb` file is a header of seven bytes and then a log as LevelDB writes it: blocks of 32 KiB
with fragments of records, each after its checksum, length and kind (full, first, middle or last).
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
MAX_BYTES = 2**30  # of a file; a run's log has a few megabytes


@dataclass
class OfflineRun:
    """The content of one .wandb file."""

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
    axes: dict[str, str] = field(default_factory=dict)  # metric -> the metric of its x axis
    files: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    preempting: bool = False
    exit_code: int | None = None


def is_offline(path: Path) -> bool:
    """Return whether a path is a .wandb file, or the folder of one."""
    try:
        return path.suffix == ".wandb" or (path.is_dir() and any(path.glob("run-*.wandb")))
    except OSError:  # not a valid path, such as a name that is too long
        return False


def read_offline(path: Path) -> OfflineRun:
    """Return the content of a .wandb file, or of a folder's, up to the first damaged record.

    UserError where the file is not a .wandb file.
    """
    file = next(iter(sorted(path.glob("run-*.wandb"))), path) if path.is_dir() else path
    run = OfflineRun()
    try:
        for content in records(file):
            _add_record(run, import_record_types().Record.FromString(content))
    except UserError:
        raise
    except Exception as error:  # of protobuf, JSON or the disk
        raise UserError(
            f"{file}: not a readable W&B log ({type(error).__name__})", path=file
        ) from None
    return run


def records(file: Path) -> Iterator[bytes]:
    """Yield the complete records of a log, up to the first damaged one.

    UserError where the file is not a .wandb file.
    """
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise _not_a_log(file)
    content = file.read_bytes()
    if content[:4] != MAGIC:
        raise _not_a_log(file)
    position, record = HEADER, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:  # too little for another fragment: padding
            position += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", content, position)
        position += HEADER
        fragment = content[position : position + length]
        if (
            kind not in (FULL, FIRST, MIDDLE, LAST)
            or zlib.crc32(fragment, zlib.crc32(bytes([kind]))) != checksum
        ):
            return  # the torn end of a run that was killed, or a damaged disk
        position += length
        record = fragment if kind in (FULL, FIRST) else record + fragment
        if kind in (FULL, LAST):
            yield record


def _not_a_log(file: Path) -> UserError:
    return UserError(f"{file}: not a file of an offline W&B run", path=file)


def _add_record(content: OfflineRun, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        run = record.run
        content.run_id, content.name, content.project = run.run_id, run.display_name, run.project
        content.group, content.job_type, content.notes = run.run_group, run.job_type, run.notes
        content.tags = list(run.tags)
        content.config |= _values(run.config.update)
    elif kind == "config":
        content.config |= _values(record.config.update)
    elif kind == "history":
        content.history.append(_values(record.history.item))
    elif kind == "summary":
        content.summary |= _values(record.summary.update)
    elif kind == "metric":
        name = record.metric.name or record.metric.glob_name
        content.axes[name] = record.metric.step_metric
    elif kind == "files":
        content.files += [entry.path for entry in record.files.files]
    elif kind == "artifact":
        content.artifacts.append(record.artifact.name)
    elif kind == "alert":
        content.alerts.append(record.alert.title)
    elif kind == "preempting":
        content.preempting = True
    elif kind == "exit":
        content.exit_code = record.exit.exit_code


def _values(items: Any) -> dict[str, Any]:
    return {
        ".".join(item.nested_key) if item.nested_key else item.key: json.loads(item.value_json)
        for item in items
    }
