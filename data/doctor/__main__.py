"""Look at the images before training on them.

    python -m data.doctor ROOT [out=doctor] [workers=N]
    python -m data.doctor data.train.NAME=FOLDER ... [data.test.NAME=FOLDER ...] [out=doctor] [workers=N]

ROOT    trainA, trainB, testA, testB, or train/<domain>, test/<domain>, or any folder of images.
out     where doctor.html, doctor.json and contact_sheet.jpg are written, over those of the last time.
        `doctor` in the current directory: ROOT may be read-only or shared, and a picture
        written into it, or beside a plain folder's images, could be trained on.
workers processes that read; as many as there are cores.

Every file is read once, as training would read it. Exit code 0: every file can be used (there may
be advice); 1: some cannot, they are listed; 2: a mistake in the command.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.command import run_command
from common.command_line import parse_words
from common.errors import UserError
from common.files import write_text
from common.user_paths import make_folder, parse_path
from data.doctor.contact_sheet import contact_sheet
from data.doctor.examine import Examined, examine, lost
from data.doctor.findings import Diagnosis, diagnose
from data.doctor.isolated import WorkerFailure, map_in_subprocesses
from data.doctor.layout import find_sets
from data.doctor.page import page
from data.doctor.summary import record, summary

PATIENCE = 60.0  # seconds for one file; 89 megapixels take five


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    out: str = ""
    workers: int = 0
    data__train: dict[str, str] = field(default_factory=dict)
    data__test: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What the command line asks for."""

    root: Path | None
    folders: dict[tuple[str, str], Path]  # by (split, domain)
    out: Path
    out_is_default: bool
    workers: int


def parse(arguments: list[str]) -> Task | None:
    """Read the command line; None where help was printed. UserError for a mistake in it."""
    parsed = parse_words(arguments, Options, str(__doc__))
    if parsed is None:
        return None
    words, options = parsed
    if len(words) > 1:
        raise UserError(f"one ROOT at a time, got {words[0]} and {words[1]}")
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
            "usage: python -m data.doctor ROOT [out=doctor] [workers=N]; --help says more"
        )
    root = parse_path(words[0]) if words else None
    out = parse_path(options.out or "doctor", "out")
    return Task(root, folders, out, not options.out, options.workers or _cores())


def read_all(files: Sequence[Path], workers: int, seconds: float = PATIENCE) -> list[Examined]:
    """Return what each file holds, in order; a file that crashes or stalls its reader is named so."""
    found: dict[int, Examined] = {}
    live = sys.stderr.isatty()
    if not live:
        print(f"reading {len(files):,} images", file=sys.stderr)
    # A process costs as much to start as some dozens of small images cost to read.
    workers = max(1, min(workers, -(-len(files) // 16)))
    for number, answer in map_in_subprocesses(examine, files, workers, seconds):
        found[number] = (
            lost(files[number], answer.reason) if isinstance(answer, WorkerFailure) else answer
        )
        if live:
            _show(len(found), len(files))
    return [found[number] for number in range(len(files))]


def write(diagnosis: Diagnosis, out: Path, root: Path | None, name: str) -> None:
    """Write the three files into `out`; UserError where that cannot be done."""
    try:
        text = json.dumps(record(diagnosis), indent=1)
        write_text(out / "doctor.json", text + "\n")
        html = page(diagnosis, root, name)
        write_text(out / "doctor.html", html)
        sheet = contact_sheet(diagnosis.sets, diagnosis.examined)
        sheet.save(out / "contact_sheet.jpg", quality=88)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written: {error.strerror or error}") from None


def main(arguments: list[str]) -> int:
    """Examine what the command line names; return 1 where some files cannot be trained on."""
    options = parse(arguments)
    if options is None:
        return 0
    sets = find_sets(options.root, options.folders)
    inputs = [each.folder.resolve() for each in sets]
    if options.root:
        inputs.append(options.root.resolve())
    out = options.out.resolve()
    if options.out_is_default and any(folder == out or folder in out.parents for folder in inputs):
        raise UserError(
            f"{options.out} would lie among the images; name another folder with out=FOLDER"
        )
    make_folder(options.out, "out")
    seen = iter(read_all([file for each in sets for file in each.files], options.workers))
    examined = [[next(seen) for _ in each.files] for each in sets]
    diagnosis = diagnose(options.root, sets, examined)
    name = options.root.resolve().name if options.root else "the images"
    write(diagnosis, options.out, options.root, name)
    told = f"{summary(diagnosis, options.root)}\n\n{options.out / 'doctor.html'} shows everything"
    encoding = sys.stdout.encoding or "utf-8"
    print(told.encode(encoding, "replace").decode(encoding))
    return 0 if diagnosis.usable else 1


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _show(done: int, total: int) -> None:
    filled = int(done / total * 30)
    bar = "\x1b[36m" + "━" * filled + "─" * (30 - filled) + "\x1b[0m"
    text = f"\r\x1b[Kreading {bar} {done:,}/{total:,}" if done < total else "\r\x1b[K"
    print(text, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_command(main)
