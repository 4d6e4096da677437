"""Hash the images of a data set, and combine the hashes into one short fingerprint."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from common.errors import UserError
from common.threads import map_in_threads

Fingerprint = Literal["contents", "sizes"]
Progress = Callable[[Iterable[str], int], Iterable[str]]
HASH_THREADS = min(8, 2 * (os.cpu_count() or 1))  # a disk serves several reads at once


@dataclass(frozen=True)
class FileHash:
    """Size, date and content hash of one file."""

    bytes: int
    modified: (
        int  # nanoseconds; a new date means that the file is hashed again, not that it differs
    )
    sha256: str  # empty if only sizes are compared


MAX_BYTES = 2**32  # of a file that is hashed; no image that fits into memory is larger
Images = dict[str, FileHash]
"""Path relative to the folder of the domain -> hash, in the order of the files."""

# (path, size, date) -> sha256: several runs in one process hash each file once.
_known_hashes: dict[tuple[str, int, int], str] = {}


def recorded_name(file: Path, folder: Path) -> str:
    """Return the name under which a file of a domain is recorded: relative, invalid UTF-8 escaped."""
    return _printable(os.path.relpath(file, folder))


def hash_files(
    folder: Path, files: Sequence[Path], how: Fingerprint = "contents",
    known: Mapping[str, FileHash] | None = None, progress: Progress = lambda names, _: names,
) -> Images:  # fmt: skip
    """Return the sizes, dates and content hashes of the files of a domain.

    Names that are not valid UTF-8 are escaped. A file that has the same size and date in `known` is
    not read again. `progress` wraps the iteration over the names and gets their number. UserError
    names a file that cannot be read.
    """
    names = [recorded_name(file, folder) for file in files]
    known = known or {}

    def hash_file(name: str, file: Path) -> FileHash:
        try:
            status = file.stat()
            size, modified = status.st_size, status.st_mtime_ns
            if how == "sizes":
                return FileHash(size, modified, "")
            if size > MAX_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
            before, key = known.get(name), (os.path.abspath(file), size, modified)
            if before and before.sha256 and (before.bytes, before.modified) == (size, modified):
                _known_hashes[key] = before.sha256
            elif key not in _known_hashes:
                with open(file, "rb") as content:
                    _known_hashes[key] = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise UserError(
                f"{file}: cannot be read ({error.strerror}); restore the file or its permissions",
                path=file,
            ) from None
        return FileHash(size, modified, _known_hashes[key])

    pairs = zip(names, files, strict=True)
    hashes = map_in_threads(lambda pair: hash_file(*pair), pairs, HASH_THREADS, 64)
    return {name: next(hashes)[1] for name in progress(names, len(names))}


def fingerprint_files(files: Mapping[str, Sequence[Path]]) -> str:
    """Return the fingerprint of a data set, given as domain -> files, from names and contents."""
    return dataset_fingerprint(
        {domain: hash_files(Path("/"), paths) for domain, paths in files.items()}
    )


def dataset_fingerprint(images: Mapping[str, Images]) -> str:
    """Return the fingerprint of a hashed data set: 16 hexadecimal digits.

    It changes with the name of a domain, and with the name, the content or the order of its files.
    A fingerprint from sizes instead of contents begins with ~.
    """
    digest, sizes = hashlib.sha256(), False
    for domain, hashes in images.items():
        digest.update(domain.encode())
        for name, image in hashes.items():
            sizes = sizes or not image.sha256
            content = bytes.fromhex(image.sha256) or str(image.bytes).encode()
            # Names were decoded as UTF-8, whatever the encoding of the file system is.
            encoded = os.path.basename(name).encode("utf-8", "surrogateescape")
            digest.update(encoded + b"\0" + content)
    return ("~" if sizes else "") + digest.hexdigest()[:16]


def to_json(images: Mapping[str, Images]) -> dict[str, dict[str, dict[str, int | str]]]:
    """Return the hashes as plain containers, for JSON."""
    return {
        domain: {name: asdict(image) for name, image in hashes.items()}
        for domain, hashes in images.items()
    }


def from_json(content: object) -> dict[str, Images]:
    """Return the hashes that `to_json` wrote; empty if damaged, so that all are computed again."""
    try:
        assert isinstance(content, dict)
        images = {
            str(domain): {str(name): _file_hash(entry) for name, entry in hashes.items()}
            for domain, hashes in content.items()
        }
        for domain, hashes in images.items():  # UnicodeEncodeError, which is a ValueError
            "".join((domain, *hashes)).encode()
        return images
    except (AssertionError, AttributeError, TypeError, KeyError, ValueError):
        return {}


def changed_names(one: Images, other: Images) -> list[str]:
    """Return the names of images that are missing on one side, or differ in size or content."""

    def is_same(name: str) -> bool:
        a, b = one.get(name), other.get(name)
        if a is None or b is None or a.bytes != b.bytes:
            return False
        return a.sha256 == b.sha256 or not (a.sha256 and b.sha256)

    return [name for name in dict.fromkeys([*one, *other]) if not is_same(name)]


def _file_hash(entry: Mapping[str, object]) -> FileHash:
    size, modified, sha256 = entry["bytes"], entry["modified"], entry["sha256"]
    if not (isinstance(size, int) and isinstance(modified, int) and isinstance(sha256, str)):
        raise TypeError
    if sha256 and len(bytes.fromhex(sha256)) != hashlib.sha256().digest_size:
        raise ValueError
    return FileHash(size, modified, sha256)


def _printable(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")
