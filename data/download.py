"""Download a published data set: python -m data.download NAME [OUT]."""

import re
import shlex
import shutil
import stat
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

from common.command_line import NoOptions, parse_words
from common.errors import UserError, one_line
from common.files import file_sha256, folder_beside
from common.run_main import run_command
from common.terminal import printable, raw_stream
from common.user_paths import parse_path

HOST = "https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/"
RETRY_PAUSES = (1.0, 3.0, 10.0)  # seconds before each further attempt
SILENCE = 30.0  # seconds without a byte
SLOW_SECONDS, SLOWEST = 60.0, 1000  # a minute below this many bytes a second is too slow
MAX_DOWNLOAD = 20 * 2**30  # bytes of an archive
RESERVED_BYTES = 2**28  # that stay free on the disk
MAX_FILES = 200_000
MAX_RATIO = 200  # of the unpacked to the packed size
MAX_BYTES = 50 * 2**30
NOT_PUBLISHED = {
    "cityscapes": "the licence forbids copies; get it at cityscapes-dataset.com and set data.root",
}


@dataclass(frozen=True)
class Archive:
    """A published zip file; `sha256` is empty if the publisher gives none."""

    url: str
    sha256: str = ""


# Preset name -> archive. The publishers give no checksums; that of the downloaded file is printed.
ARCHIVES = {
    name: Archive(f"{HOST}{file}.zip")
    for name, file in {
        "horse2zebra": "horse2zebra", "monet2photo": "monet2photo",
        "vangogh2photo": "vangogh2photo", "cezanne2photo": "cezanne2photo",
        "ukiyoe2photo": "ukiyoe2photo",
        "summer2winter": "summer2winter_yosemite", "apple2orange": "apple2orange", "maps": "maps",
        "facades": "facades", "iphone2dslr_flower": "iphone2dslr_flower",
    }.items()
}  # fmt: skip


def download(archive: Archive, out: Path, pauses: tuple[float, ...] = RETRY_PAUSES) -> str:
    """Download an archive, unpack it into the new folder `out`, and return its sha256.

    An interrupted transfer continues where it stopped, in this call and in the next one. `out`
    appears only when it is complete. UserError, in one line, if the network, the archive or the
    folder prevents it.
    """
    if out.exists():
        raise UserError(f"{out} exists already; remove it to download again", path=out)
    partial = out.with_name(out.name + ".zip.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _transfer_with_retries(archive.url, partial, pauses)
        digest = file_sha256(partial)
        if archive.sha256 and digest != archive.sha256:
            partial.unlink()
            raise UserError(
                f"{archive.url}: the sha256 is {digest[:16]}..., not {archive.sha256[:16]}...; "
                "the file is removed, run the command again",
                path=partial,
            )
        with folder_beside(out) as building:
            unpack(partial, building)
            entries = [entry for entry in building.iterdir() if entry.name != "__MACOSX"]
            # The published archives contain a single folder of their own name.
            has_single_folder = len(entries) == 1 and entries[0].is_dir()
            (entries[0] if has_single_folder else building).rename(out)
        partial.unlink()
    except OSError as error:
        raise UserError(
            f"{out}: {error.strerror or one_line(error)}; check the folder and the free disk space",
            path=out,
        ) from None
    return digest


def unpack(archive: Path, out: Path) -> None:
    """Unpack a zip file into `out`; UserError if it is damaged, hostile or a zip bomb.

    Refused are absolute names, names outside of `out`, links, devices, duplicate names, and
    archives of more than 200,000 files, 50 GiB, or 200 times their packed size. A refused or
    damaged archive leaves no files in `out`, and is deleted.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            _check_members(archive, members)
            for member in members:
                target = out / PurePosixPath(member.filename)
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        shutil.rmtree(out, ignore_errors=True)
        archive.unlink(missing_ok=True)
        raise UserError(
            f"{archive}: not an intact zip file ({one_line(error, 80)}); it is removed, try again",
            path=archive,
        ) from None
    except UserError:  # the same command downloads it again: it may have been replaced
        shutil.rmtree(out, ignore_errors=True)
        archive.unlink(missing_ok=True)
        raise


def _check_members(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise UserError for an archive that is too large or has a member with an unsafe name."""
    unpacked = sum(member.file_size for member in members)
    packed = max(archive.stat().st_size, 1)
    if len(members) > MAX_FILES or unpacked > MAX_BYTES or unpacked > MAX_RATIO * packed:
        raise UserError(
            f"{archive}: refused, it would unpack to {unpacked / 1e9:.1f} GB "
            f"in {len(members)} files",
            path=archive,
        )
    names = set()
    for member in members:
        name = PurePosixPath(member.filename)
        is_outside = (
            name.is_absolute() or ".." in name.parts or "\\" in member.filename or "\0" in str(name)
        )
        if is_outside or _is_special(member) or name in names:
            raise UserError(
                f"{archive}: refused, it contains the unsafe name {member.filename[:80]!r}",
                path=archive,
            )
        names.add(name)


def _is_special(member: zipfile.ZipInfo) -> bool:
    """Return whether the archive records a member as a link, a device or a pipe."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    return kind not in (0, stat.S_IFREG, stat.S_IFDIR)


def _transfer_with_retries(url: str, partial: Path, pauses: tuple[float, ...]) -> None:
    """Download `url` to `partial`; retry after each pause if the server or network fails."""
    reason = ""
    for pause in (*pauses, None):
        try:
            if _resume_transfer(url, partial):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise UserError(
                    f"{url}: the server answers {error.code} {error.reason}", path=partial
                ) from None
            reason = f"the server answers {error.code}"
        except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException,
                ValueError) as error:  # fmt: skip
            reason = one_line(error, 80)
        if pause is not None:
            print(f"{reason}; trying again in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)
    raise UserError(
        f"{url}: cannot be downloaded ({reason}); run the same command again to continue",
        path=partial,
    )


def _resume_transfer(url: str, partial: Path) -> bool:
    """Append the missing bytes to `partial`; return whether it is complete."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = _OPENER.open(request, timeout=SILENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # the file has no bytes after those that are here
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return True
            partial.unlink()  # not a part of this file: the next attempt starts from the beginning
            return False
        raise
    with answer:
        if answer.status == 206:
            begins = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            if begins is None or int(begins[1]) != have or not have:
                partial.unlink(missing_ok=True)
                raise HTTPException("the server sends another part than was asked for")
        else:
            have = 0
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        limit = min(MAX_DOWNLOAD, have + shutil.disk_usage(partial.parent).free - RESERVED_BYTES)
        if (total or 0) > limit:
            raise _too_much(url, partial, total or 0, limit)
        with open(partial, "ab" if have else "wb") as file:
            for chunk in _chunks(answer):
                have += len(chunk)
                if have > limit:
                    raise _too_much(url, partial, have, limit)
                file.write(chunk)
                _print_progress(partial.name.removesuffix(".partial"), have, total)
    return total is None or have == total


def _chunks(answer: Any) -> Iterator[bytes]:
    """Yield the chunks of an answer; TimeoutError if it comes too slowly to end."""
    began, received = time.monotonic(), 0
    while chunk := answer.read1(2**18):
        received += len(chunk)
        yield chunk
        if time.monotonic() - began > SLOW_SECONDS:
            if received < SLOW_SECONDS * SLOWEST:
                raise TimeoutError(f"less than {SLOWEST} bytes a second")
            began, received = time.monotonic(), 0


def _too_much(url: str, partial: Path, size: int, limit: int) -> UserError:
    partial.unlink(missing_ok=True)
    return UserError(
        f"{url}: {size / 1e9:.1f} GB are more than the {limit / 1e9:.1f} GB that may be downloaded "
        "here; free disk space, or choose another folder",
        path=partial,
    )


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from an encrypted address to one that is not."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request for the new address; HTTPException if it is less safe."""
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise HTTPException(f"the server redirects to an unencrypted address, {newurl[:60]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_NoDowngrade)


def _print_progress(name: str, have: int, total: int | None) -> None:
    if sys.stderr.isatty():
        done = f"{have / total:4.0%} of {total / 1e6:.0f} MB" if total else f"{have / 1e6:.0f} MB"
        end = "\n" if have == total else ""
        line = f"\r\x1b[K{printable(name)}  {done}"
        print(line, end=end, file=raw_stream(sys.stderr), flush=True)


def main(arguments: list[str]) -> None:
    """Download the named data set into datasets/NAME or the given folder."""
    names = ", ".join(sorted(ARCHIVES))
    usage = f"usage: python -m data.download NAME [OUT]\n\nNAME: {names}\nOUT:  datasets/NAME"
    parsed = parse_words(arguments, NoOptions, usage)
    if parsed is None:
        return
    words, _ = parsed
    if not 1 <= len(words) <= 2:
        raise UserError(f"usage: python -m data.download NAME [OUT], with NAME one of {names}")
    name = words[0]
    if name in NOT_PUBLISHED:
        raise UserError(f"{name}: {NOT_PUBLISHED[name]}")
    if name not in ARCHIVES:
        raise UserError(f"unknown data set '{name}'; the known ones are {names}")
    out = parse_path(words[1]) if len(words) > 1 else Path("datasets") / name
    digest = download(ARCHIVES[name], out)
    print(
        f"{out}: ready (sha256 {digest}); "
        f"train with: python train.py {name} {shlex.quote(f'data.root={out}')}"
    )


if __name__ == "__main__":
    run_command(main)
