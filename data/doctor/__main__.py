"""Check images before training on them: report problems and recommend options.

    python -m data.doctor ROOT [out=doctor] [workers=N] [max_megapixels=N]
    python -m data.doctor data.train.NAME=FOLDER ... [data.test.NAME=FOLDER ...] [out=doctor]

ROOT     a folder with trainA, trainB, testA, testB, or train/<domain>, test/<domain>,
         or any folder of images
out      the folder for doctor.html, doctor.json and contact_sheet.jpg; existing ones are replaced.
         The default is `doctor` in the current directory, not in ROOT: ROOT may be read-only or
         shared, and a picture that is written among the images could be trained on.
workers  processes that read images; default: one for each CPU core
max_megapixels  of the largest picture to open; default: what the free memory allows

Every file is read once, as in training. Exit code 0: every file can be used (there may be advice);
1: some files cannot be used and are listed; 2: an error in the command.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.command_line import parse_words
from common.errors import RunError, UserError, one_line
from common.files import write_atomically, write_text
from common.run_main import run_command
from common.terminal import raw_stream
from common.user_paths import make_folder, parse_path
from data.doctor.contact_sheet import contact_sheet
from data.doctor.examine_image import ExaminedFile, examine
from data.doctor.findings import Diagnosis, diagnose
from data.doctor.folder_layout import find_sets
from data.doctor.page import page
from data.doctor.subprocess_map import WorkerFailure, map_in_subprocesses
from data.doctor.summary import summary, to_json
from data.values.pixel_limit import set_max_megapixels

MAX_SECONDS = 60.0  # for one file; 89 megapixels take five seconds


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    out: str = ""
    workers: int = 0
    max_megapixels: float = 0
    data__train: dict[str, str] = field(default_factory=dict)
    data__test: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """The parsed command line."""

    root: Path | None
    folders: dict[tuple[str, str], Path]  # by (split, domain)
    out: Path
    out_is_default: bool
    workers: int


def parse(arguments: list[str]) -> Task | None:
    """Parse the command line; return None if help was printed. UserError names a mistake."""
    parsed = parse_words(arguments, Options, str(__doc__))
    if parsed is None:
        return None
    words, options = parsed
    if len(words) > 1:
        raise UserError(
            f"name one ROOT only, got {words[0]} and {words[1]}; for folders in several places use "
            "data.train.NAME=FOLDER",
            path=words[1],
        )
    if options.workers < 1 and any(word.startswith("workers=") for word in arguments):
        raise UserError(
            f"workers must be a whole number, at least 1, got '{options.workers}'", option="workers"
        )
    folders = {
        (split, domain): parse_path(folder, f"data.{split}.{domain}")
        for split, named in (("train", options.data__train), ("test", options.data__test))
        for domain, folder in named.items()
    }
    if not words and not folders:
        raise UserError(
            "usage: python -m data.doctor ROOT [out=doctor] [workers=N]; --help explains more"
        )
    set_max_megapixels(options.max_megapixels)
    root = parse_path(words[0]) if words else None
    out = parse_path(options.out or "doctor", "out")
    return Task(root, folders, out, not options.out, options.workers or _cores())


def examine_all(
    files: Sequence[Path], workers: int, seconds: float = MAX_SECONDS
) -> list[ExaminedFile]:
    """Examine files in subprocesses and return the results in order.

    A file that crashes its process, or takes longer than `seconds`, has the fault `killed`.
    """
    results: dict[int, ExaminedFile] = {}
    has_progress_bar = sys.stderr.isatty()
    if not has_progress_bar:
        print(f"reading {len(files):,} images", file=sys.stderr)
    # Starting a process takes as long as reading some dozens of small images.
    workers = max(1, min(workers, -(-len(files) // 16)))
    for number, result in map_in_subprocesses(examine, files, workers, seconds):
        results[number] = (
            ExaminedFile(files[number], "killed", result.reason)
            if isinstance(result, WorkerFailure)
            else result
        )
        if has_progress_bar:
            _print_progress(len(results), len(files))
    return [results[number] for number in range(len(files))]


def write(diagnosis: Diagnosis, out: Path, root: Path | None, name: str) -> None:
    """Write doctor.json, doctor.html and contact_sheet.jpg into `out`; UserError if impossible."""
    try:
        text = json.dumps(to_json(diagnosis), indent=1)
        write_text(out / "doctor.json", text + "\n")
        html = page(diagnosis, root, name)
        write_text(out / "doctor.html", html)
        sheet = contact_sheet(diagnosis.sets, diagnosis.examined)
        write_atomically(
            out / "contact_sheet.jpg", lambda file: sheet.save(file, "JPEG", quality=88)
        )
    except (OSError, UserError, RunError) as error:
        reason = getattr(error, "strerror", None) or one_line(error, 120)
        raise UserError(
            f"out={out}: cannot be written: {reason}; name another folder",
            option="out", path=out,
        ) from None  # fmt: skip


def main(arguments: list[str]) -> int:
    """Examine the images that the command line names; return 1 if some cannot be trained on."""
    task = parse(arguments)
    if task is None:
        return 0
    sets = find_sets(task.root, task.folders)
    inputs = [each.folder.resolve() for each in sets]
    if task.root:
        inputs.append(task.root.resolve())
    out = task.out.resolve()
    if task.out_is_default and any(folder == out or folder in out.parents for folder in inputs):
        raise UserError(
            f"the default folder out={task.out} would be among the images; set out=FOLDER",
            option="out", path=task.out,
        )  # fmt: skip
    make_folder(task.out, "out")
    results = iter(examine_all([file for each in sets for file in each.files], task.workers))
    examined = [[next(results) for _ in each.files] for each in sets]
    diagnosis = diagnose(task.root, sets, examined)
    name = task.root.resolve().name if task.root else "the images"
    write(diagnosis, task.out, task.root, name)
    text = f"{summary(diagnosis, task.root)}\n\nFull report: {task.out / 'doctor.html'}"
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
    return 0 if diagnosis.usable else 1


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _print_progress(done: int, total: int) -> None:
    filled = int(done / total * 30)
    bar = "\x1b[36m" + "━" * filled + "─" * (30 - filled) + "\x1b[0m"
    text = f"\r\x1b[Kreading {bar} {done:,}/{total:,}" if done < total else "\r\x1b[K"
    print(text, end="", file=raw_stream(sys.stderr), flush=True)


if __name__ == "__main__":
    run_command(main)
