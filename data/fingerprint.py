"""What a data set is: the name, size and content of every image, and one short name for all of them."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from common.errors import UserError

Fingerprint = Literal["contents", "sizes"]
Counted = Callable[[Iterable[str], int], Iterable[str]]
READERS = min(8, 2 * (os.cpu_count() or 1))  # threads: a disk answers several at once


@dataclass(frozen=True)
class FileHash:
    """One file as it was when it was looked at."""

    bytes: int
    modified: int  # nanoseconds; another date is another look, not another image
    sha256: str  # empty where contents are not looked at


Images = dict[str, FileHash]
"""Path in the folder of its domain -> image, in the order of the files."""

_seen: dict[tuple[str, int, int], str] = {}  # several runs of one process look once


def hash_files(
    folder: Path, files: Sequence[Path], how: Fingerprint = "contents",
    known: Mapping[str, FileHash] | None = None, counted: Counted = lambda items, _: items,
) -> Images:  # fmt: skip
    """Return what the files of a domain are; UserError names one that cannot be read.

    Names that are no UTF-8 are escaped. A file that `known` holds with the same size and date is not read
    again. `counted` may show how many of how many are done.
    """
    names = [_printable(os.path.relpath(file, folder)) for file in files]
    known = known or {}

    def look(name: str, file: Path) -> FileHash:
        try:
            status = file.stat()
            size, modified = status.st_size, status.st_mtime_ns
            if how == "sizes":
                return FileHash(size, modified, "")
            before, key = known.get(name), (os.path.abspath(file), size, modified)
            if before and before.sha256 and (before.bytes, before.modified) == (size, modified):
                _seen[key] = before.sha256
            elif key not in _seen:
                with open(file, "rb") as content:
                    _seen[key] = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from None
        return FileHash(size, modified, _seen[key])

    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(look, names, files)
        return {name: next(found) for name in counted(names, len(names))}


def fingerprint_files(files: Mapping[str, Sequence[Path]]) -> str:
    """Return a name for a set of images by domain: another name or content of any is another set."""
    return dataset_fingerprint(
        {domain: hash_files(Path("/"), paths) for domain, paths in files.items()}
    )


def dataset_fingerprint(images: Mapping[str, Images]) -> str:
    """Return the name of a set that was looked at; 16 hexadecimal digits, ~ before those of sizes alone."""
    digest, sizes = hashlib.sha256(), False
    for domain, found in images.items():
        digest.update(domain.encode())
        for name, image in found.items():
            sizes = sizes or not image.sha256
            content = bytes.fromhex(image.sha256) or str(image.bytes).encode()
            digest.update(os.fsencode(os.path.basename(name)) + b"\0" + content)
    return ("~" if sizes else "") + digest.hexdigest()[:16]


def to_json(images: Mapping[str, Images]) -> dict[str, dict[str, dict[str, int | str]]]:
    """Return what was looked at as plain containers."""
    return {
        domain: {name: asdict(image) for name, image in found.items()}
        for domain, found in images.items()
    }


def from_json(content: object) -> dict[str, Images]:
    """Return what `to_json` gave; nothing where it is damaged, so that everything is looked at again."""
    try:
        assert isinstance(content, dict)
        return {
            str(domain): {str(name): _image(entry) for name, entry in found.items()}
            for domain, found in content.items()
        }
    except (AssertionError, AttributeError, TypeError, KeyError, ValueError):
        return {}


def changed_names(one: Images, other: Images) -> list[str]:
    """Return the names whose image is missing on one side, or of another size or content."""

    def same(name: str) -> bool:
        a, b = one.get(name), other.get(name)
        if a is None or b is None or a.bytes != b.bytes:
            return False
        return a.sha256 == b.sha256 or not (a.sha256 and b.sha256)

    return [name for name in dict.fromkeys([*one, *other]) if not same(name)]


def _image(entry: Mapping[str, object]) -> FileHash:
    size, modified, sha256 = entry["bytes"], entry["modified"], entry["sha256"]
    if not (isinstance(size, int) and isinstance(modified, int) and isinstance(sha256, str)):
        raise TypeError
    if sha256 and len(bytes.fromhex(sha256)) != hashlib.sha256().digest_size:
        raise ValueError
    return FileHash(size, modified, sha256)


def _printable(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")
