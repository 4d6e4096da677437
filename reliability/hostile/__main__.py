"""Give hostile checkpoints, places, names and downloads to every command.

    python -m reliability.hostile checkpoints|places|names|downloads [--count N] [--seed S]

checkpoints: 300 changed checkpoints and bundles, with checksums that fit. places: links, pipes and
folders at every path that a command reads or writes. names: images with 39 hostile names. downloads:
39 wrong answers of a server on this machine.

In no case may a file outside of the run and the outputs change, a traceback appear, or a command
take more than 30 seconds or 1 GB. The program prints one line; the exit code is 1 if a case failed.
"""

import argparse
import tempfile
import time
from pathlib import Path

from common.run_main import run_command
from inference.exported_bundle import require
from reliability.hostile import checkpoints, downloads, names, places

KINDS = {
    "checkpoints": checkpoints.cases, "places": places.cases, "names": names.cases,
    "downloads": downloads.cases,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Run the cases of one kind; return 1 if one failed."""
    parser = argparse.ArgumentParser(
        prog="hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=0, help="number of cases; 0: all, or 300")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    require("safetensors")  # of the bundles
    failures, done, slowest = [], 0, (0.0, "")
    with tempfile.TemporaryDirectory(prefix="hostile_") as folder:
        for name, check in KINDS[args.kind](Path(folder).resolve(), args.count, args.seed):
            began = time.monotonic()
            problem = check()
            slowest = max(slowest, (time.monotonic() - began, name))
            done += 1
            if problem:
                failures.append(f"{name}: {problem}")
                print(failures[-1], flush=True)
    print(
        f"hostile_{args.kind}: {done} cases, {len(failures)} failed; slowest {slowest[0]:.1f} s "
        f"({slowest[1][:60]})"
    )
    return bool(failures)


if __name__ == "__main__":
    run_command(main)
