"""Let a write of a command fail, at every point, and check that nothing is lost.

    python -m reliability.write_faults [--points N] [--seed S]

In a run of tiny networks, the n-th opening, write, closing, synchronization or renaming of a file
fails with an error of the disk (full, broken, read-only, no permission), for each of export.py,
translate.py, test.py and train.py. The command must end with exit code 0, 1 or 2 and one line of
error, and the same command must then succeed; a run must end with the weights of an undisturbed
one, bit for bit. The program prints one line; the exit code is 1 if a case failed.
"""

import argparse
import builtins
import errno
import hashlib
import itertools
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import export
import test
import train
import translate
from data.scenes import generate
from engine.checkpoint import Checkpoints
from reliability.command_in_child import SMALL as TINY_RUN
from reliability.command_in_child import run_in_child

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT)
OPERATIONS = ("open", "write", "close", "fsync", "replace", "rename")
SMALL = [*TINY_RUN, "duration=4 steps", "checkpoint_every=2"]
Command = tuple[Any, list[str]]
"""A module with a main function, and its words."""


class Fault:
    """Fails the n-th operation of one kind on a file below a folder."""

    def __init__(self, folder: Path, operation: str, number: int, code: int) -> None:
        self.folder, self.operation = str(folder), operation
        self.left, self.code = number, code
        self.marker = folder.with_name("happened")  # made when the operation fails
        self.marker.unlink(missing_ok=True)

    def at(self, operation: str, path: object) -> None:
        """Count an operation; OSError if it is the one that fails."""
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else str(path)
        if operation != self.operation or not str(name).startswith(self.folder):
            return
        self.left -= 1
        if self.left == 0:
            self.marker.touch()
            raise OSError(self.code, os.strerror(self.code), str(name))

    def install(self) -> None:
        """Put the fault into the functions that write files, in this process."""
        fault, opened, fsync, replace = self, builtins.open, os.fsync, os.replace
        rename = os.rename

        def open_(path: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            writes = any(letter in mode for letter in "wax+")
            if writes:
                fault.at("open", path)
            file = opened(path, mode, *more, **named)
            return _Written(file, fault, path) if writes else file

        def fsync_(descriptor: int) -> None:
            fault.at("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        def replace_(source: Any, target: Any) -> None:
            fault.at("replace", target)
            replace(source, target)

        def rename_(source: Any, target: Any, **named: Any) -> None:
            fault.at("rename", target)
            rename(source, target, **named)

        builtins.open, os.fsync = open_, fsync_  # pyright: ignore
        os.replace, os.rename = replace_, rename_  # pyright: ignore


class _Written:
    """A file whose writes can fail."""

    def __init__(self, file: Any, fault: Fault, path: object) -> None:
        self._file, self._fault, self._path = file, fault, path

    def write(self, content: Any) -> int:
        self._fault.at("write", self._path)
        return self._file.write(content)

    def __enter__(self) -> Any:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        if error[0] is None:
            self.close()
        return self._file.__exit__(*error)

    def close(self) -> None:
        """Close the file, then fail: the kernel reports a delayed error when it is closed."""
        if not self._file.closed:
            self._file.close()
            self._fault.at("close", self._path)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def weights_of(run: Path) -> str:
    """Return a hash of the weights in a run's latest checkpoint."""
    digest = hashlib.sha256()
    for name, value in Checkpoints(run / "checkpoints").load_latest()["method"].items():
        if isinstance(value, torch.Tensor):
            digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def check(name: str, command: Command, folder: Path, fault: Fault, expected: str) -> str:
    """Run a command with a fault, then without; return what is wrong, "" if nothing is."""
    module, words = command
    result = run_in_child(module.main, words, fault.install)
    if not fault.marker.exists():
        return "did not happen"
    if result.problem:
        return result.problem
    if result.code and result.errors.count("error: ") != 1:
        return f"not one line of error: {result.errors[-300:]}"
    again = run_in_child(module.main, words)
    if again.code:
        return f"the same command then ends with {again.code}: {again.errors[-300:]}"
    if name == "train" and weights_of(folder / "run") != expected:
        return "other weights than an undisturbed run"
    return ""


def main(arguments: list[str]) -> int:
    """Try the faults; return 1 if a case failed."""
    parser = argparse.ArgumentParser(
        prog="write_faults", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--points", type=int, default=100, help="faults over the four commands")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="write_faults_"))
    generate("season", root / "data", train=4, test=2, size=24)
    words = ["cyclegan", f"data.root={root / 'data'}", f"run={root / 'trained'}", *SMALL]
    result = run_in_child(train.main, words)
    assert result.code == 0, result.errors
    expected = weights_of(root / "trained")
    random_order = random.Random(args.seed)
    failures, done, folder = [], 0, root / "case"
    commands: dict[str, Command] = {
        "export": (
            export,
            [str(root / "trained"), f"out={folder / 'out'}", "direction=a_to_b", "formats=safetensors"],
        ),
        "translate": (
            translate,
            [str(root / "trained"), str(root / "data/testA"), str(folder / "out"), "direction=a_to_b"],
        ),
        "test": (test, [str(folder / "run"), "wandb=disabled", "checks=false"]),
        "train": (train, [*words[:2], f"run={folder / 'run'}", *SMALL]),  # it has the most points
    }  # fmt: skip
    for index, (name, command) in enumerate(commands.items()):
        share = -(-(args.points - done) // (len(commands) - index))
        points = ((number, operation) for number in itertools.count(1) for operation in OPERATIONS)
        tried, absent = 0, 0
        while tried < share and absent < 2 * len(OPERATIONS):
            number, operation = next(points)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            if name == "test":
                shutil.copytree(root / "trained", folder / "run")
            fault = Fault(folder, operation, number, random_order.choice(ERRORS))
            problem = check(name, command, folder, fault, expected)
            if problem == "did not happen":
                absent += 1
                continue
            tried, absent = tried + 1, 0
            if problem:
                case = f"{name}, {operation} {number}, {errno.errorcode[fault.code]}"
                failures.append(f"{case}: {problem}")
        done += tried
    for failure in failures[:20]:
        print(failure)
    print(f"write_faults: {done} points of four commands, {len(failures)} failed")
    shutil.rmtree(root)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
