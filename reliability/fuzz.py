"""Fuzz the inputs of the software: options, images and checkpoints.

    python -m reliability.fuzz options|images|checkpoints [--count N] [--seed S] [--keep FOLDER]
    python -m reliability.fuzz KIND --repeat FILE ...

Every case is a function of the seed and its number. The program prints one line for each kind. The
exit code is 1 if a case failed; its file and a file with the reason then stay in the printed
folder.
"""

import argparse
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from common.run_main import run_command
from reliability import fuzz_checkpoints, fuzz_images, fuzz_options
from reliability.fuzz_harness import Case, Check, Limits, Report, run_cases

COUNTS = {"options": 2000, "images": 2000, "checkpoints": 500}
# An image at the limit of 89 megapixels is 358 MB as RGBA, and up to four copies are in memory.
LIMITS = {
    "options": Limits(seconds=10, growth=60, peak=300),
    "images": Limits(seconds=20, growth=150, peak=2500),
    "checkpoints": Limits(seconds=20, growth=30, peak=150, address_space=600),
}
SHELL_LIMITS = Limits(seconds=120, growth=60, peak=300)


def fuzz(kind: str, cases: Iterable[Case], folder: Path) -> Report:
    """Run the cases of one kind with its check and limits; failing cases stay in `folder`."""
    checks: dict[str, Check] = {
        "options": fuzz_options.check,
        "images": fuzz_images.check,
        "checkpoints": fuzz_checkpoints.check,
    }
    return run_cases(cases, checks[kind], LIMITS[kind], folder)


def run(
    kind: str, count: int, seed: int, folder: Path, images: Path | None
) -> list[tuple[str, Report]]:
    """Return the reports of one kind; options also run in a shell, with a report of their own."""
    if kind == "images":
        return [(kind, fuzz(kind, fuzz_images.cases(count, seed, images), folder))]
    if kind == "checkpoints":
        # A list, because building the bombs would count as memory of the checks.
        prepared = list(fuzz_checkpoints.cases(count, seed))
        return [(kind, fuzz(kind, prepared, folder))]
    reports = [(kind, fuzz(kind, fuzz_options.cases(count, seed), folder))]
    commands = fuzz_options.shell_cases(min(20, max(2, count // 100)), seed)
    shell = run_cases(commands, fuzz_options.check_in_shell, SHELL_LIMITS, folder)
    return [*reports, ("options in the shell", shell)]


def main(arguments: list[str]) -> int:
    """Parse the command line and fuzz; return 1 if a case failed."""
    parser = argparse.ArgumentParser(
        prog="fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=COUNTS)
    parser.add_argument(
        "--count", type=int, default=0, help="number of cases; 0: the default of the kind"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=Path, help="a folder of further images to damage")
    parser.add_argument("--keep", type=Path, help="folder for failing cases; default: a new one")
    parser.add_argument(
        "--repeat", type=Path, nargs="+", default=[], help="failed cases to run again"
    )
    args = parser.parse_args(arguments)
    folder = (args.keep or Path(tempfile.mkdtemp(prefix=f"fuzz_{args.kind}_"))).resolve()
    repeated = [Case(file.name, file.read_bytes()) for file in args.repeat]
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # hostile cases may write into the current folder
    if repeated:
        reports = [(args.kind, fuzz(args.kind, repeated, folder))]
    else:
        count = args.count or COUNTS[args.kind]
        reports = run(args.kind, count, args.seed, folder, args.images)
    failures = list(itertools.chain(*(report.failures for _, report in reports)))
    for failure in failures[:20]:
        print(failure)
    for kind, report in reports:
        print(report.line(kind), flush=True)
    if not failures and not args.keep:
        shutil.rmtree(folder)
    return bool(failures)


if __name__ == "__main__":
    run_command(main)
