"""Downloads are resumed, checked and unpacked safely, against a server on this machine."""

import contextlib
import gc
import hashlib
import http.server
import io
import socket
import stat
import threading
import time
import urllib.request
import zipfile
from http.client import HTTPException
from pathlib import Path

import pytest

from common.errors import UserError
from data import download
from data.download import ARCHIVES, Archive, unpack
from tests.conftest import call, raises_user_error


def zipped(members: dict[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if name in links:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, content)
    return stream.getvalue()


GOOD = zipped({f"set/train{d}/{n}.jpg": bytes(range(256)) * 40 for d in "AB" for n in range(20)})


class Server(http.server.ThreadingHTTPServer):
    """Serve one file, with ranges; cut the first connections after some bytes."""

    content, cuts, ranges, requests, statuses = GOOD, [], True, [], []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(self.headers.get("Range"))
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        start = 0
        if server.ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            size = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    server.content, server.cuts, server.ranges, server.requests, server.statuses = (
        GOOD,
        [],
        True,
        [],
        [],
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(server, out: Path, sha256: str = "", pauses: tuple[float, ...] = (0.0,) * 12) -> str:
    archive = Archive(f"http://127.0.0.1:{server.server_address[1]}/set.zip", sha256)
    return download.download(archive, out, pauses)


def test_an_archive_is_fetched_unpacked_and_its_one_folder_taken_off(server, tmp_path):
    digest = fetch(server, tmp_path / "out")
    assert digest == hashlib.sha256(GOOD).hexdigest()
    assert len(list((tmp_path / "out/trainA").iterdir())) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("ranges", [True, False])
def test_cut_connections_are_continued_from_where_they_ended(server, tmp_path, ranges):
    server.cuts = [len(GOOD) // 12] * 10
    server.ranges = ranges
    fetch(server, tmp_path / "out")
    assert len(list((tmp_path / "out/trainB").iterdir())) == 20
    if ranges:
        assert server.requests[0] is None and all(server.requests[1:])


def test_an_interrupted_transfer_is_kept_for_the_next_call(server, tmp_path):
    server.cuts = [500]
    with raises_user_error(path=tmp_path / "out.zip.partial"):
        fetch(server, tmp_path / "out", pauses=())
    fetch(server, tmp_path / "out")
    assert server.requests == [None, "bytes=500-"]


def test_a_complete_partial_file_is_not_fetched_again(server, tmp_path):
    (tmp_path / "out.zip.partial").write_bytes(GOOD)
    fetch(server, tmp_path / "out")
    assert server.requests == [f"bytes={len(GOOD)}-"]


def test_a_wrong_checksum_removes_the_file_and_says_both(server, tmp_path):
    with pytest.raises(UserError, match=hashlib.sha256(GOOD).hexdigest()[:16]) as error:
        fetch(server, tmp_path / "out", sha256="0" * 64)
    assert "0" * 16 in str(error.value)
    assert not list(tmp_path.iterdir())


def test_servers_that_fail_are_asked_again_and_those_that_refuse_are_not(server, tmp_path):
    server.statuses = [503, 500]
    fetch(server, tmp_path / "out")
    server.statuses, requests = [404, 404], len(server.requests)
    with pytest.raises(UserError, match="404"):
        fetch(server, tmp_path / "other")
    assert len(server.requests) == requests + 1


def test_no_server_is_one_line(tmp_path):
    with raises_user_error(path=tmp_path / "out.zip.partial"):
        download.download(Archive("http://127.0.0.1:9/x.zip"), tmp_path / "out", ())


def test_an_existing_folder_is_not_overwritten(server, tmp_path):
    (tmp_path / "out").mkdir()
    with raises_user_error(path=tmp_path / "out"):
        fetch(server, tmp_path / "out")
    assert server.requests == []


HOSTILE = {
    "out of the folder": zipped({"../evil.txt": b"x"}),
    "out, deeper": zipped({"a/../../evil.txt": b"x"}),
    "absolute": zipped({"/evil.txt": b"x"}),
    "backslash": zipped({"..\\evil.txt": b"x"}),
    "a link": zipped({"link": b"/etc/passwd"}, links=("link",)),
    "twice": zipped({"a/x.txt": b"1", "a//x.txt": b"2"}),
    "a bomb": zipped({"x": b"\0" * 30_000_000}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path, kind):
    (tmp_path / "x.zip").write_bytes(HOSTILE[kind])
    with pytest.raises(UserError, match="refused") as error:
        unpack(tmp_path / "x.zip", tmp_path / "in/out")
    assert error.value.path == str(tmp_path / "x.zip")
    assert sorted(path.name for path in tmp_path.rglob("*")) == []


def special(kind: int) -> bytes:
    """Return an archive with a member that is not a regular file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        member = zipfile.ZipInfo("odd")
        member.external_attr = (kind | 0o644) << 16
        file.writestr(member, b"")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_and_pipes_are_refused(tmp_path, kind):
    (tmp_path / "x.zip").write_bytes(special(kind))
    with pytest.raises(UserError, match="refused.*'odd'"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("bound", "value"), [("MAX_FILES", 1), ("MAX_BYTES", 3)])
def test_too_many_files_and_too_many_bytes_are_refused(tmp_path, monkeypatch, bound, value):
    (tmp_path / "x.zip").write_bytes(zipped({"a.txt": b"12", "b.txt": b"34"}))
    unpack(tmp_path / "x.zip", tmp_path / "within_limits")
    monkeypatch.setattr(download, bound, value)
    with pytest.raises(UserError, match="refused.* in 2 files"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", [b"", b"<html>", GOOD[: len(GOOD) // 2], GOOD[:50] + b"\xff" * 60 + GOOD[110:]]
)
def test_a_damaged_archive_is_refused_removed_and_leaves_nothing(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    with raises_user_error(path=tmp_path / "x.zip"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_every_published_set_has_its_preset_and_bad_words_are_answered():
    from options.presets import preset_names

    assert set(ARCHIVES) <= set(preset_names())
    assert all(archive.url.startswith("https://") for archive in ARCHIVES.values())
    for words in ([], ["nothing"], ["cityscapes"], ["a", "b", "c"]):
        code, error = call(download, *words)
        assert code == 2 and error


class Raw:
    """A server that sends given bytes on every connection, again and again, and closes it."""

    def __init__(self, head: bytes, body: bytes = b"", repeat: int = 1, pause: float = 0.0) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/x.zip"
        self.sent, self.connections = 0, 0
        self.parts = head, body, repeat, pause
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        head, body, repeat, pause = self.parts
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 " + head + b"\r\n\r\n")
                for _ in range(repeat):
                    connection.sendall(body)
                    self.sent += len(body)
                    time.sleep(pause)

    def close(self) -> None:
        self.socket.close()


def fetched(server: Raw, tmp_path: Path) -> str:
    """Download from a hostile server, which must fail in one line; return the line."""
    try:
        with pytest.raises(UserError) as error:
            download.download(Archive(server.url), tmp_path / "set", pauses=())
    finally:
        server.close()
    assert "\n" not in str(error.value) and not (tmp_path / "set").exists()
    return str(error.value)


def test_a_body_without_end_does_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_DOWNLOAD", 2_000_000)
    server = Raw(b"200 OK\r\nContent-Type: application/zip", b"x" * 100_000, repeat=100_000)
    assert "may be downloaded here" in fetched(server, tmp_path)
    assert server.sent < 50_000_000 and not list(tmp_path.iterdir())
    large = Raw(b"200 OK\r\nContent-Length: 3000000", b"x" * 1000)
    assert "may be downloaded here" in fetched(large, tmp_path)


def test_a_byte_now_and_then_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.3)
    server = Raw(b"200 OK\r\nContent-Length: 1000000", b"x", repeat=1000, pause=0.05)
    began = time.monotonic()
    assert "bytes a second" in fetched(server, tmp_path) and time.monotonic() - began < 10


@pytest.mark.parametrize("head", [
    b"200 OK\r\nContent-Length: abc", b"302 Found\r\nLocation: http://", b"302 Found\r\nLocation: ",
    b"302 Found\r\nLocation: ftp://x/y", b"301 Moved", b"999 ?", b"206 Partial Content",
    b"206 Partial Content\r\nContent-Range: bytes 500-600/601",
], ids=lambda head: head.decode()[:40])  # fmt: skip
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # urllib's sockets
def test_answers_that_make_no_sense_are_one_line(tmp_path, head):
    fetched(Raw(head, b"x" * 100), tmp_path)
    gc.collect()  # sockets that urllib leaves open are reported here


def test_a_redirect_to_an_unencrypted_address_is_not_followed():
    request = urllib.request.Request("https://example.org/x.zip")
    handler = download._NoDowngrade()
    with pytest.raises(HTTPException, match="unencrypted"):
        handler.redirect_request(request, None, 302, "", {}, "http://example.org/x.zip")
    safe = handler.redirect_request(request, None, 302, "", {}, "https://example.org/y.zip")
    assert safe is not None and safe.full_url.endswith("y.zip")


def test_a_refused_archive_does_not_block_the_same_command(server, tmp_path):
    server.content = zipped({"../out.txt": b"x"})
    url = f"http://127.0.0.1:{server.server_port}/x.zip"
    with pytest.raises(UserError):
        download.download(Archive(url), tmp_path / "set", pauses=())
    server.content = GOOD
    download.download(Archive(url), tmp_path / "set", pauses=())
    assert (tmp_path / "set" / "trainA").is_dir()
