"""Fuzz what people hand to the software: options, images, checkpoints.

    python -m reliability.fuzz options|images|checkpoints [--count N] [--seed S] [--keep FOLDER]
    python -m reliability.fuzz KIND --repeat FILE ...

Each case is a function of (seed, number). One line for each kind; exit code 1 if a case failed, whose
file, and the reason beside it, then stay in the folder that is named.
"""

import argparse
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from common.command import run_command
from reliability import fuzz_checkpoints, fuzz_images, fuzz_options
from reliability.fuzz_harness import Case, Check, Limits, Report, run_cases

COUNTS = {"options": 2000, "images": 2000, "checkpoints": 500}
# A picture at the limit of 89 megapixels is 358 MB as RGBA, and is held up to four times.
LIMITS = {
    "options": Limits(seconds=10, growth=60, peak=300),
    "images": Limits(seconds=20, growth=150, peak=2500),
    "checkpoints": Limits(seconds=20, growth=30, peak=150, address_space=600),
}
SHELL = Limits(seconds=120, growth=60, peak=300)


def fuzz(kind: str, cases: Iterable[Case], folder: Path) -> Report:
    """Try the cases of a kind."""
    discriminators: dict[str, Check] = {
        "options": fuzz_options.judge, "images": fuzz_images.judge, "checkpoints": fuzz_checkpoints.judge,
    }  # fmt: skip
    return run_cases(cases, discriminators[kind], LIMITS[kind], folder)


def run(
    kind: str, count: int, seed: int, folder: Path, images: Path | None
) -> list[tuple[str, Report]]:
    """Return the reports of a kind: of this process, and for options also of the shell."""
    if kind == "images":
        return [(kind, fuzz(kind, fuzz_images.cases(count, seed, images), folder))]
    if kind == "checkpoints":
        made = list(fuzz_checkpoints.cases(count, seed))  # here: a bomb's making takes memory too
        return [(kind, fuzz(kind, made, folder))]
    found = [(kind, fuzz(kind, fuzz_options.cases(count, seed), folder))]
    some = fuzz_options.shell_cases(min(20, max(2, count // 100)), seed)
    shell = run_cases(some, fuzz_options.through_the_shell, SHELL, folder)
    return [*found, ("options in the shell", shell)]


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return 1 if anything failed."""
    parser = argparse.ArgumentParser(
        prog="fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=COUNTS)
    parser.add_argument("--count", type=int, default=0, help="0: what the kind asks for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=Path, help="a folder with more images to damage")
    parser.add_argument("--keep", type=Path, help="where failing cases go; default: a new folder")
    parser.add_argument("--repeat", type=Path, nargs="+", default=[], help="files of failed cases")
    known = parser.parse_args(arguments)
    folder = (known.keep or Path(tempfile.mkdtemp(prefix=f"fuzz_{known.kind}_"))).resolve()
    repeated = [Case(file.name, file.read_bytes()) for file in known.repeat]
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # what a case might write, it writes there
    if repeated:
        reports = [(known.kind, fuzz(known.kind, repeated, folder))]
    else:
        count = known.count or COUNTS[known.kind]
        reports = run(known.kind, count, known.seed, folder, known.images)
    failures = list(itertools.chain(*(report.failures for _, report in reports)))
    for failure in failures[:20]:
        print(failure)
    for kind, report in reports:
        print(report.line(kind), flush=True)
    if not failures and not known.keep:
        shutil.rmtree(folder)
    return bool(failures)


if __name__ == "__main__":
    run_command(main)
