"""Exclude images that cannot be read from a run, and record their names in its folder."""

import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError, one_line
from common.files import read_json, write_text
from common.threads import map_in_threads
from data.folders import evenly_spaced
from data.reading import BadImage, image_size

MAX_BAD_FRACTION = 0.01  # of a domain; more bad images than this point to another problem
FEW = 8  # files of a domain whose headers are read before anything else


def refuse_unreadable(files: Mapping[str, Sequence[Path]]) -> None:
    """Raise UserError where none of a few files of a domain can be read, before all are hashed."""
    for domain, paths in files.items():
        chosen = evenly_spaced(paths, FEW)
        reasons = [reason for path in chosen if (reason := _header_error(path))]
        if len(reasons) == len(chosen):
            images = (
                f"none of {len(chosen)} images that were tried" if len(chosen) > 1 else "no image"
            )
            raise UserError(
                f"{domain}: {images} can be read, such as {reasons[0]}; check the folder with: "
                f"python -m data.doctor {shlex.quote(os.path.dirname(chosen[0]))}",
                option=f"data.train.{domain}", path=chosen[0],
            )  # fmt: skip


def _header_error(path: Path) -> str:
    try:
        image_size(path)
    except (BadImage, OSError) as error:
        return one_line(error)
    return ""


def drop_bad_images(
    files: Mapping[str, Sequence[Path]], read: Callable[[str, Path], object], record: Path,
    progress: Callable[[Iterator[Any], int], Iterable[Any]],
) -> dict[str, list[Path]]:  # fmt: skip
    """Return domain -> the files for which `read(domain, file)` does not raise BadImage.

    Every file is read once, and `record` (JSON) receives the bad ones. An existing `record` is used
    instead of reading, so that a resumed run continues with the images it began with. `progress`
    wraps the iteration over the results and gets their number. UserError if more than 1 % of a
    domain is bad (more than one image, in domains below 200 images), or if no image is left.
    """
    bad = _load_record(record) if record.exists() else _read_all(files, read, progress)
    usable = {d: [f for f in paths if str(f) not in bad] for d, paths in files.items()}
    for domain, paths in files.items():
        bad_count = len(paths) - len(usable[domain])
        if bad_count > max(MAX_BAD_FRACTION * len(paths), 1) or not usable[domain]:
            first = next(f for f in paths if str(f) in bad)
            raise UserError(
                f"{bad_count} of {len(paths)} images of {domain} cannot be used, "
                f"such as {bad[str(first)]}; data.bad_images=skip leaves out 1 % at most, "
                "so replace or remove them",
                option="data.bad_images", path=first,
            )  # fmt: skip
    if not record.exists():
        write_text(record, json.dumps(bad, indent=1) + "\n")
    return usable


def _read_all(
    files: Mapping[str, Sequence[Path]], read: Callable[[str, Path], object],
    progress: Callable[[Iterator[Any], int], Iterable[Any]],
) -> dict[str, str]:  # fmt: skip
    """Return path -> reason for every file that cannot be used.

    Threads are enough: image decoders release the interpreter's lock.
    """

    def reason(pair: tuple[str, Path]) -> str:
        try:
            read(*pair)
        except BadImage as error:
            return str(error)
        return ""

    pairs = [(domain, file) for domain, paths in files.items() for file in paths]
    threads = os.cpu_count() or 1
    found = map_in_threads(reason, pairs, threads, 4 * threads)
    counted = progress(((str(pair[1]), why) for pair, why in found), len(pairs))
    return {path: why for path, why in counted if why}


def _load_record(record: Path) -> dict[str, str]:
    try:
        content = read_json(record)
        return {str(file): str(reason) for file, reason in content.items()}
    except (OSError, ValueError, AttributeError):
        raise UserError(
            f"{record} is damaged; remove it, and all images are checked again", path=record
        ) from None
