"""Leave out images that cannot be read, once and for good, where a run was told to."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.errors import UserError
from common.files import write_text
from data.reading import BadImage

MAX_BAD_SHARE = 0.01  # of a domain that may be left out; where more is bad, something else is wrong


def drop_bad_images(
    files: Mapping[str, Sequence[Path]], read: Callable[[str, Path], object], record: Path,
    counted: Callable[[Iterator[object], int], Iterable[object]],
) -> dict[str, list[Path]]:  # fmt: skip
    """Return domain -> the files that `read(domain, file)` raises no BadImage for.

    Every file is read once, and the names of the bad ones are written to `record` as JSON; where that
    exists, it is believed, so that a run goes on with the images it began with. UserError where more
    than one in a hundred (or one, of fewer) is bad, or nothing is left.
    """
    bad = _recorded(record) if record.exists() else _examined(files, read, counted)
    kept = {d: [f for f in paths if str(f) not in bad] for d, paths in files.items()}
    for domain, paths in files.items():
        lost = len(paths) - len(kept[domain])
        if lost > max(MAX_BAD_SHARE * len(paths), 1) or not kept[domain]:
            first = next(f for f in paths if str(f) in bad)
            raise UserError(
                f"{lost} of {len(paths)} images of {domain} cannot be used, such as {bad[str(first)]}; "
                "data.bad_images=skip leaves out one in a hundred at most"
            )
    if not record.exists():
        write_text(record, json.dumps(bad, indent=1) + "\n")
    return kept


def _examined(
    files: Mapping[str, Sequence[Path]], read: Callable[[str, Path], object],
    counted: Callable[[Iterator[object], int], Iterable[object]],
) -> dict[str, str]:  # fmt: skip
    """Return path -> reason of every file that cannot be used; decoders let other threads run."""

    def reason(domain: str, file: Path) -> tuple[str, str] | None:
        try:
            read(domain, file)
        except BadImage as error:
            return str(file), str(error)
        return None

    work = [(domain, file) for domain, paths in files.items() for file in paths]
    with ThreadPoolExecutor() as pool:
        found = list(counted(pool.map(lambda pair: reason(*pair), work), len(work)))
    return dict(pair for pair in found if isinstance(pair, tuple))


def _recorded(record: Path) -> dict[str, str]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return {str(file): str(reason) for file, reason in content.items()}
    except (OSError, ValueError, AttributeError):
        raise UserError(f"{record} is damaged; remove it, and the images are read again") from None
