"""Put links, pipes and folders where a command reads or writes a file; nothing outside may change.

The places are those that the four commands open, make, rename or delete, as the interpreter reports
them; then each of them becomes a link to a file or folder outside, a link to nothing, a pipe, a
folder or an empty file, before the command runs again.
"""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from reliability.hostile.workplace import COMMANDS, Workplace, make_workplace

UNFINISHED = (".tmp", ".partial")  # ends of names that only this software gives
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.scandir", "os.listdir", "os.rmdir")
TEXT = "this file belongs to the user\n"
MAY_BE_LINKS = (
    "data",
    "run",
    "out",
    "bundle",
    *(f"data/{s}{d}" for s in ("train", "test") for d in "AB"),
)
"""Folders that the user names; people keep them on larger disks."""


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / ("folder" if path.suffix == "" else "file"))


def _dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "new")


def _loop(path: Path, _: Path) -> None:
    path.symlink_to(path)


def _pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, _: Path) -> None:
    path.mkdir()
    (path / "inside").write_text(TEXT)


def _empty(path: Path, _: Path) -> None:
    path.touch()


KINDS: dict[str, Callable[[Path, Path], None]] = {
    "link": _link, "link to nothing": _dangling, "link to itself": _loop, "pipe": _pipe,
    "folder": _folder, "empty file": _empty,
}  # fmt: skip


def places_of(command: str, place: Workplace) -> list[Path]:
    """Return the paths below a workplace, relative, that a command reads or writes."""
    record = place.root.parent / "places"
    record.unlink(missing_ok=True)
    root = f"{place.root}{os.sep}"

    def watch() -> None:
        file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event not in EVENTS:
                return
            for each in arguments[:2]:
                path = os.fsdecode(each) if isinstance(each, str | bytes | os.PathLike) else ""
                if path.startswith(root) and not path.endswith(".tmp"):
                    os.write(file, f"{path.removeprefix(root)}\n".encode())

        sys.addaudithook(hook)

    result = place.start(command, watch)
    assert result.code == 0, result.errors
    names = set(record.read_text().splitlines())
    return [
        Path(name) for name in sorted(names)
        if name not in MAY_BE_LINKS and not any(part.endswith(UNFINISHED) for part in Path(name).parts)
    ]  # fmt: skip


def cases(root: Path, count: int, seed: int) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield each place and kind: its name, and a function that returns what went wrong.

    A command writes its files when it runs first and reads them when it runs again, so both are
    tried. `count` chooses that many at random; 0: all.
    """
    place, template = make_workplace(root / "place"), root / "template"
    place.root.rename(template)
    places = []
    for command, again in ((c, again) for c in COMMANDS for again in (False, True)):
        _restore(place, template, command, again)
        found = places_of(command, place)
        places += [(command, again, path, kind) for path in found for kind in KINDS]
    if count:
        places = random.Random(seed).sample(places, min(count, len(places)))
    for command, again, path, kind in places:
        name = f"{command}{' again' if again else ''}, {path}, {kind}"

        def check(
            command: str = command, again: bool = again, path: Path = path, kind: str = kind
        ) -> str:
            _restore(place, template, command, again)
            return _try(place, command, path, kind)

        yield name, check


def _restore(place: Workplace, template: Path, command: str, again: bool) -> None:
    """Make the workplace new: the command has all of its work to do, or what it continues."""
    shutil.rmtree(place.root, ignore_errors=True)
    shutil.copytree(template, place.root, symlinks=True)
    written = {"train": place.run, "test": place.run / "test", "translate": place.out,
               "export": place.root / "bundle"}[command]  # fmt: skip
    if not again:
        shutil.rmtree(written)
    elif command == "train":  # two of the four steps are done
        path = place.run / "checkpoints" / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["files"].pop(manifest["latest"])
        (path.parent / manifest["latest"]).unlink()
        manifest["latest"] = manifest["best"] = next(iter(manifest["files"]))
        path.write_text(json.dumps(manifest))
    elif command == "export":
        shutil.rmtree(place.bundle)


def _try(place: Workplace, command: str, path: Path, kind: str) -> str:
    """Put a thing of this kind at a path, run the command, and return what went wrong."""
    outside = place.root.parent / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    (outside / "folder").mkdir(parents=True)
    expected = {outside / name: TEXT for name in ("file", "folder/photo.png", "folder/file")}
    for file in expected:
        file.write_text(TEXT)
    target = place.root / path
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](target, outside)
    result = place.start(command)
    left = {file: file.read_text() for file in outside.rglob("*") if file.is_file()}
    if left != expected:
        return f"files outside changed: {sorted(map(str, left))}"
    if kind == "folder" and not (target / "inside").exists():
        return "a folder of the user was deleted"
    return result.problem
