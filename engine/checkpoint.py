"""Write and read the checkpoints of a run.

Writing is atomic, so a crash loses no finished checkpoint; reading never runs code from the file.
"""

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
from common.files import file_sha256, read_json, write_atomically, write_text
from engine.checkpoint_content import check_tensors, wrong_types
from engine.upgrade_format_1 import upgrade_state
from engine.validation import SCORE_DEFINITION

FORMAT = 2
MANIFEST = "manifest.json"
NAME = re.compile(r"step_\d+\.pt")  # file name of a checkpoint; a manifest may list no other file
MAX_PICKLE_BYTES = 4 * 2**20  # bytes of keys and plain values; a CycleGAN's take about 30 KB


class Checkpoints:
    """The checkpoints of one run, in RUN/checkpoints.

    `manifest.json` lists the files with their sha256 and is replaced last: a file that it does not
    list is not a checkpoint of the run. The newest `keep` checkpoints and the best one (lowest
    score) are retained. Where the manifest itself is lost or damaged, every step_*.pt file in the
    folder is a candidate, and the checksums inside it are verified.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, state: dict[str, Any], step: int, score: float | None = None) -> Path:
        """Write a checkpoint of tensors, numbers, texts and plain containers; return its path.

        `score` ranks it among the others: lower is better; without one, a checkpoint of the same
        step keeps the score that it has. RunError where it cannot be written, with the space needed
        and free.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in (*self.folder.glob(".*.tmp"), *self.folder.glob("*.tmp")):
            stale.unlink(missing_ok=True)
        path = self.folder / f"step_{step:08d}.pt"
        write_atomically(
            path, lambda file: torch.save({"format": FORMAT, **state}, file), _size_in_bytes(state)
        )
        # A newer checkpoint could not be read, and its steps have been computed again.
        earlier = self._files()
        files = {name: entry for name, entry in earlier.items() if entry["step"] < step}
        definition = SCORE_DEFINITION
        if score is None and path.name in earlier:
            score = earlier[path.name]["score"]
            definition = earlier[path.name].get("score_definition", 1)
        files[path.name] = {
            "step": step, "sha256": file_sha256(path), "bytes": path.stat().st_size, "score": score,
            "score_definition": definition,
        }  # fmt: skip
        newest = sorted(files, key=lambda name: files[name]["step"])[-self.keep :]
        best = _best(files)
        retained = {name: files[name] for name in files if name in newest or name == best}
        manifest = {"format": FORMAT, "latest": path.name, "best": best, "files": retained}
        write_text(self.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        for name in {stale.name for stale in self.folder.glob("step_*.pt")} - retained.keys():
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError:  # an old file that cannot be removed must not stop training
                print(f"note: {self.folder / name} could not be removed", file=sys.stderr)
        return path

    def is_best(self, score: float | None) -> bool:
        """Return whether a score is finite and below that of every scored checkpoint."""
        if score is None or not math.isfinite(score):
            return False
        best = _best(files := self._files())
        return (
            best is None
            or _definition(files[best]) < SCORE_DEFINITION
            or score < files[best]["score"]
        )

    def exist(self) -> bool:
        """Return whether there is a checkpoint to continue from."""
        return bool(self._files())

    def load_latest(self) -> dict[str, Any]:
        """Return the content of the newest intact checkpoint; print a note for each damaged one.

        UserError where none can be read.
        """
        files = self._files()
        unlisted = [name for name in files if files[name]["sha256"] is None]
        if unlisted:
            what = "lost or damaged" if len(unlisted) == len(files) else "incomplete"
            print(
                f"note: {self.folder / MANIFEST} is {what}; using the checkpoints in its folder",
                file=sys.stderr,
            )
        for name in sorted(files, key=lambda name: files[name]["step"], reverse=True):
            try:
                return load_checkpoint(
                    self.folder / name, files[name]["sha256"], files[name].get("bytes")
                )
            except UserError as error:
                print(f"note: {error}; trying the previous checkpoint", file=sys.stderr)
        raise UserError(
            f"{self.folder}: none of its checkpoints can be read; "
            "start again with another run=FOLDER",
            path=self.folder,
        )

    def load_best(self) -> dict[str, Any]:
        """Return the checkpoint with the lowest score, or the newest where none has a score."""
        files = self._files()
        best = _best(files)
        return (
            load_checkpoint(self.folder / best, files[best]["sha256"], files[best].get("bytes"))
            if best
            else self.load_latest()
        )

    def latest_step(self) -> int:
        """Return the step of the latest checkpoint."""
        return max(int(entry["step"]) for entry in self._files().values())

    def latest_and_best(self) -> dict[str, dict[str, Any]]:
        """Return alias -> a manifest that lists one checkpoint alone.

        The aliases are `best` and `latest`, or `best_latest` where both are the same checkpoint or
        none has a score.
        """
        files = self._files()
        last, best = max(files, key=lambda name: files[name]["step"]), _best(files)
        wanted = {"best_latest": last} if best in (last, None) else {"best": best, "latest": last}
        return {
            alias: {"format": FORMAT, "latest": n, "best": n, "files": {n: files[n]}}
            for alias, n in wanted.items()
        }  # fmt: skip

    def _files(self) -> dict[str, dict[str, Any]]:
        """Return file name -> manifest entry; without sha256 where the manifest is damaged.

        A complete checkpoint that is newer than those in the manifest belongs to them: the manifest
        was not written any more, or was shortened.
        """
        on_disk = {
            path.name: {
                "step": int(path.stem.removeprefix("step_")), "sha256": None,
                "bytes": path.stat().st_size, "score": None,
            }
            for path in sorted(self.folder.glob("step_*.pt"))
            if NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink()
        }  # fmt: skip
        try:
            files = read_json(self.folder / MANIFEST)["files"]
            entries = {str(name): dict(entry) for name, entry in files.items()}
            assert all(NAME.fullmatch(name) for name in entries), "a file outside the folder"
            for entry in entries.values():
                assert isinstance(entry["step"], int) and isinstance(entry["sha256"], str | None)
                assert isinstance(entry["score"], int | float | None)
                assert isinstance(entry.get("score_definition", 1), int)
                entry["score"] = None if entry["score"] is None else float(entry["score"])
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError,
                AssertionError):  # fmt: skip
            return on_disk
        newest = max((entry["step"] for entry in entries.values()), default=-1)
        return entries | {n: entry for n, entry in on_disk.items() if entry["step"] > newest}


def load_checkpoint(
    path: Path, sha256: str | None = None, size: int | None = None
) -> dict[str, Any]:
    """Return a checkpoint's content on the CPU, loading tensors and plain values only.

    A checkpoint of format 1 is translated to format 2. UserError, in one line that names the file,
    where it is missing, damaged (its size or sha256 is not the one given; without a sha256, the
    checksums inside the file are verified), of another kind, or holds anything that would run code
    or unpack to more than the file's own size.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint", path=path)
    wrong_size = size is not None and path.stat().st_size != size  # before all of it is hashed
    if wrong_size or (sha256 is not None and file_sha256(path) != sha256):
        raise UserError(f"{path}: the file is damaged (its checksum is wrong)", path=path)
    verify_checksums(path, checksums=sha256 is None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the line below replaces what torch warns of
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage raises EOFError, RuntimeError, UnpicklingError, ValueError
        raise _unreadable(path, error) from None
    kind = state.get("format") if isinstance(state, dict) else None
    if not isinstance(kind, int) or kind not in (1, FORMAT):
        raise UserError(
            f"{path}: not a checkpoint of this software, or of a newer version of it", path=path
        )
    check_tensors(state, path)
    try:
        state = upgrade_state(state) if kind == 1 else state
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise _unreadable(path, error) from None
    return state


def verify_checksums(path: Path, checksums: bool = True) -> None:
    """Raise UserError where an archive is not laid out as torch.save writes it, or is damaged.

    torch.load does not verify the checksums of an archive's records, unpacks compressed records of
    any size, and passes an archive with TorchScript in it to another loader. `checksums=False`
    leaves the checksums out, where the sha256 of the whole file was verified before.
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
                raise UserError(
                    f"{path}: not written by this software, and not safe to load", path=path
                )
            damaged = archive.testzip() if checksums else None
    except UserError:
        raise
    except Exception as error:  # damage raises BadZipFile, EOFError, ValueError and others
        raise _unreadable(path, error) from None
    if damaged is not None:
        raise UserError(
            f"{path}: the file is damaged (the checksum of {damaged[:60]} is wrong)", path=path
        )


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable checkpoint ({type(error).__name__})", path=path)


def state_dict_mismatch(expected: Mapping[str, Any], loaded: Mapping[str, Any]) -> str:
    """Return how the state dict `loaded` differs from the one `expected`; "" where it fits.

    Three names of each kind are listed: missing, unknown, of another size or type, not finite.
    """

    def shape(value: Any) -> Any:
        return value.shape if isinstance(value, torch.Tensor) else None

    kinds = {
        "missing": expected.keys() - loaded.keys(),
        "unknown": loaded.keys() - expected.keys(),
        "of another size": {
            name
            for name in expected
            if name in loaded and shape(expected[name]) != shape(loaded[name])
        },
        "of another type": wrong_types(expected, loaded),
        "not finite": {
            name
            for name, value in loaded.items()
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
    """Return the name of the file with the lowest finite score; None where none has one.

    Scores of the newest definition alone are compared.
    """
    scored = [
        n for n in files if files[n]["score"] is not None and math.isfinite(files[n]["score"])
    ]
    return min(scored, key=lambda n: (-_definition(files[n]), files[n]["score"]), default=None)


def _definition(entry: dict[str, Any]) -> int:
    """Return the definition of the score of a checkpoint, given its entry in the manifest."""
    return entry.get("score_definition", 1)


def _size_in_bytes(state: Any) -> int:
    """Return about how many bytes nested containers of tensors take in a checkpoint."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.itemsize
    if isinstance(state, Mapping):
        return sum(_size_in_bytes(value) for value in state.values())
    return sum(_size_in_bytes(value) for value in state) if isinstance(state, list | tuple) else 0
