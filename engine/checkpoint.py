"""Checkpoints: everything a run is, written so that no crash can lose it, read without running code."""

import json
import math
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from common.files import file_sha256, write_atomically, write_text
from engine.format_1 import upgrade_state

FORMAT = 2
MANIFEST = "manifest.json"
NAME = re.compile(r"step_\d+\.pt")  # of a checkpoint; a manifest names nothing else
MAX_PICKLE_BYTES = 4 * 2**20  # bytes of names and plain values; a CycleGAN's are some 30 KB


class Checkpoints:
    """The checkpoints of one run, in RUN/checkpoints.

    `manifest.json` names the files with their sha256 and is replaced last: what it does not name does
    not exist. The newest `keep` and the best (lowest score) are kept. Where the manifest itself is lost
    or damaged, the files that lie there are believed as far as the checksums inside them hold.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, state: dict[str, Any], step: int, score: float | None = None) -> Path:
        """Write a checkpoint of tensors, numbers, texts and plain containers; return its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in (*self.folder.glob(".*.tmp"), *self.folder.glob("*.tmp")):
            stale.unlink(missing_ok=True)
        path = self.folder / f"step_{step:08d}.pt"
        write_atomically(
            path, lambda file: torch.save({"format": FORMAT, **state}, file), _bytes_of(state)
        )
        # What is newer belongs to a past that could not be read and is being computed again.
        files = {name: entry for name, entry in self._files().items() if entry["step"] < step}
        files[path.name] = {
            "step": step, "sha256": file_sha256(path), "bytes": path.stat().st_size, "score": score,
        }  # fmt: skip
        newest = sorted(files, key=lambda name: files[name]["step"])[-self.keep :]
        best = _best(files)
        kept = {name: files[name] for name in files if name in newest or name == best}
        manifest = {"format": FORMAT, "latest": path.name, "best": best, "files": kept}
        write_text(self.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        for name in {stale.name for stale in self.folder.glob("step_*.pt")} - kept.keys():
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError:  # an old file that will not go is no reason to stop training
                print(f"note: {self.folder / name} could not be removed", file=sys.stderr)
        return path

    def is_best(self, score: float | None) -> bool:
        """Say whether a score is below that of every checkpoint that has one."""
        if score is None or not math.isfinite(score):
            return False
        best = _best(files := self._files())
        return best is None or score < files[best]["score"]

    def exist(self) -> bool:
        """Say whether there is a checkpoint to continue from."""
        return bool(self._files())

    def load_latest(self) -> dict[str, Any]:
        """Return the newest checkpoint that is whole, with a line for each that is not."""
        files = self._files()
        if files and all(entry["sha256"] is None for entry in files.values()):
            print(f"note: {self.folder / MANIFEST} is lost or damaged; the files beside it are looked "
                  "at", file=sys.stderr)  # fmt: skip
        for name in sorted(files, key=lambda name: files[name]["step"], reverse=True):
            try:
                return load_checkpoint(self.folder / name, files[name]["sha256"])
            except UserError as error:
                print(f"note: {error}; trying the one before", file=sys.stderr)
        raise UserError(
            f"{self.folder}: no checkpoint in it can be read; start again with another run="
        )

    def load_best(self) -> dict[str, Any]:
        """Return the checkpoint of the lowest score, or the newest where none was scored."""
        files = self._files()
        best = _best(files)
        return (
            load_checkpoint(self.folder / best, files[best]["sha256"])
            if best
            else self.load_latest()
        )

    def latest_and_best(self) -> dict[str, dict[str, Any]]:
        """Return a manifest for the best checkpoint alone and one for the last, or one for both in one."""
        files = self._files()
        last, best = max(files, key=lambda name: files[name]["step"]), _best(files)
        wanted = {"best_latest": last} if best in (last, None) else {"best": best, "latest": last}
        return {
            alias: {"format": FORMAT, "latest": n, "best": n, "files": {n: files[n]}}
            for alias, n in wanted.items()
        }  # fmt: skip

    def _files(self) -> dict[str, dict[str, Any]]:
        try:
            files = json.loads((self.folder / MANIFEST).read_text())["files"]
            entries = {str(name): dict(entry) for name, entry in files.items()}
            assert all(NAME.fullmatch(name) for name in entries), "a file elsewhere"
            for entry in entries.values():
                assert isinstance(entry["step"], int) and isinstance(entry["sha256"], str | None)
                assert isinstance(entry["score"], int | float | None)
            return entries
        except (ValueError, KeyError, TypeError, AttributeError, OSError, AssertionError):
            return {
                path.name: {
                    "step": int(path.stem.removeprefix("step_")), "sha256": None,
                    "bytes": path.stat().st_size, "score": None,
                }
                for path in sorted(self.folder.glob("step_*.pt")) if NAME.fullmatch(path.name)
            }  # fmt: skip


def load_checkpoint(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """Return a checkpoint's content on the CPU, loading tensors and plain values only.

    UserError, in one line that names the file, where it is missing, damaged (its sha256 differs from
    the one given, or without one those in the file are), of another kind, or holds anything that would
    run code or unpack to more than the file's own size.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    if sha256 is not None and file_sha256(path) != sha256:
        raise UserError(f"{path}: the file is damaged (its checksum is wrong)")
    verify_checksums(path, checksums=sha256 is None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch wonders at in a file is for the line below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # EOFError, RuntimeError, UnpicklingError, ValueError: as damage has it
        raise UserError(f"{path}: not a readable checkpoint ({type(error).__name__})") from None
    if not isinstance(state, dict) or state.get("format") not in (1, FORMAT):
        raise UserError(f"{path}: not a checkpoint of this software (or of a newer version)")
    return upgrade_state(state) if state["format"] == 1 else state


def verify_checksums(path: Path, checksums: bool = True) -> None:
    """Raise UserError where torch.load would unpack, believe or run what torch.save never writes.

    torch does not look at the checksums of its records, unpacks compressed ones of any size, and hands
    an archive with TorchScript in it to another reader.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            pickled = [member for member in members if member.filename.endswith(".pkl")]
            if (
                len(pickled) != 1
                or pickled[0].file_size > MAX_PICKLE_BYTES
                or any(member.compress_type != zipfile.ZIP_STORED for member in members)
                or sum(member.file_size for member in members) > path.stat().st_size
            ):
                raise UserError(f"{path}: not written by this software, and not safe to load")
            damaged = archive.testzip() if checksums else None
    except UserError:
        raise
    except Exception as error:  # as damage has it: BadZipFile, EOFError, ValueError ...
        raise UserError(f"{path}: not a readable checkpoint ({type(error).__name__})") from None
    if damaged is not None:
        raise UserError(f"{path}: the file is damaged (the checksum of {damaged[:60]} is wrong)")


def state_dict_mismatch(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return how the weights `found` do not fit those `wanted`, in three names of each kind; or nothing."""

    def shape(value: Any) -> Any:
        return value.shape if isinstance(value, torch.Tensor) else None

    kinds = {
        "missing": wanted.keys() - found.keys(),
        "unknown": found.keys() - wanted.keys(),
        "of another size": {
            n for n in wanted if n in found and shape(wanted[n]) != shape(found[n])
        },
        "not finite": {
            name
            for name, value in found.items()
            if isinstance(value, torch.Tensor) and not torch.isfinite(value).all()
        },
    }
    return "; ".join(
        f"{kind} {', '.join(sorted(map(str, names))[:3])}"
        + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for kind, names in kinds.items()
        if names
    )


def _best(files: dict[str, dict[str, Any]]) -> str | None:
    scored = [
        n for n in files if files[n]["score"] is not None and math.isfinite(files[n]["score"])
    ]
    return min(scored, key=lambda name: files[name]["score"], default=None)


def _bytes_of(state: Any) -> int:
    """Return about how many bytes a checkpoint of nested containers takes."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.itemsize
    if isinstance(state, Mapping):
        return sum(_bytes_of(value) for value in state.values())
    return sum(_bytes_of(value) for value in state) if isinstance(state, list | tuple) else 0
