"""Measure the processor time and the memory of test.py by the number of held-out images.

    python benchmarks/evaluation.py [--images 200,2000,8000] [--side 64] [--data FOLDER] [--tree FOLDER]

A tiny network is trained for two steps on generated scenes; test.py then evaluates N held-out
images of each domain with all checks, and once without them, in processes of their own. With --data,
the images of that folder are used as they are. --tree runs test.py of another checkout of this
project. Seconds are processor time of one thread; memory is the peak of the whole process.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common.run_main import run_command
from common.text_table import aligned
from data.scenes import generate

ROOT = Path(__file__).resolve().parents[1]
TINY = ["method.generator.channels=4", "method.generator.blocks=1", "method.discriminator.channels=4",
        "validation_images=0", "log.previews=0", "log.wandb=disabled", "runtime.device=cpu",
        "runtime.threads=1", "duration=2 steps"]  # fmt: skip


def measure(tree: Path, command: list[str]) -> tuple[float, float]:
    """Run a command of a checkout; return its processor seconds and its peak memory in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import resource, runpy, sys; sys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tree, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, int(done.stderr.split()[-1]) / 1000


def main(arguments: list[str]) -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="200,2000,8000", help="held-out images of each domain")
    parser.add_argument("--side", type=int, default=64, help="pixels of a side")
    parser.add_argument("--data", type=Path, help="a folder with trainA, trainB, testA, testB")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout that is measured")
    args = parser.parse_args(arguments)
    table = [["held-out images", "CPU seconds", "without checks", "checks, per image", "memory"]]
    with tempfile.TemporaryDirectory() as name:
        for count in [0] if args.data else [int(n) for n in args.images.split(",")]:
            data = args.data or Path(name) / f"scenes{count}"
            if not args.data:
                generate("season", data, train=20, test=count, size=args.side)
            run = str(Path(name) / f"run{count}")
            sides = [f"data.load_size={args.side * 9 // 8}", f"data.crop_size={args.side}"]
            measure(
                args.tree,
                ["train.py", "cyclegan", f"data.root={data}", f"run={run}", *TINY, *sides],
            )
            words = ["test.py", run, "wandb=disabled"]
            seconds, memory = measure(args.tree, words)
            translation, _ = measure(args.tree, [*words, "checks=false"])
            images = sum(1 for letter in "AB" for _ in (data / f"test{letter}").iterdir())
            table.append([
                str(images), f"{seconds:.0f}", f"{translation:.0f}",
                f"{1000 * (seconds - translation) / images:.1f} ms", f"{memory:.0f} MB",
            ])  # fmt: skip
            print(aligned(table[-1:]), file=sys.stderr, flush=True)
    print(aligned(table))


if __name__ == "__main__":
    run_command(main)
