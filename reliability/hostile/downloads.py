"""Download from a server on this machine that answers wrongly; the same command then succeeds.

Nothing may remain of what was refused, no file may appear outside the folder, and no answer may fill
the disk or keep the command waiting.
"""

import contextlib
import functools
import io
import socket
import stat
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data import download
from reliability.command_in_child import Result, run_in_child

NAME = "horse2zebra"
LIMIT = 20_000_000  # bytes that a download may have here


def archive(members: dict[str, bytes], mode: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip file; `mode` is the Unix mode of its members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = method, mode << 16
            file.writestr(info, content)
    return stream.getvalue()


GOOD = archive({f"set/train{d}/{n}.jpg": bytes(range(256)) * 40 for d in "AB" for n in range(3)})


@dataclass(frozen=True)
class Answer:
    """What the server sends: a head, a body that repeats, and the pause between."""

    head: bytes = b"200 OK\r\nContent-Length: %d"  # %d becomes the length of the body
    body: bytes = GOOD
    repeat: int = 1
    pause: float = 0.0
    may_succeed: bool = False


def _encrypted() -> bytes:
    content = bytearray(archive({"set/a.jpg": b"x" * 100}, method=zipfile.ZIP_STORED))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


ANSWERS: dict[str, Answer] = {
    "body without end": Answer(b"200 OK", b"x" * 100_000, repeat=10**6),
    "length of a terabyte": Answer(b"200 OK\r\nContent-Length: 1000000000000"),
    "a byte now and then": Answer(b"200 OK\r\nContent-Length: 1000000", b"x", 10_000, 0.05),
    "length abc": Answer(b"200 OK\r\nContent-Length: abc", may_succeed=True),
    "negative length": Answer(b"200 OK\r\nContent-Length: -5", may_succeed=True),
    "two lengths": Answer(b"200 OK\r\nContent-Length: 5\r\nContent-Length: 7"),
    "longer than said": Answer(b"200 OK\r\nContent-Length: 10"),
    "shorter than said": Answer(b"200 OK\r\nContent-Length: 1000000"),
    "redirect to nothing": Answer(b"302 Found\r\nLocation: "),
    "redirect to no host": Answer(b"302 Found\r\nLocation: http://"),
    "redirect to a file": Answer(b"302 Found\r\nLocation: file:///etc/passwd"),
    "redirect to ftp": Answer(b"302 Found\r\nLocation: ftp://127.0.0.1/x"),
    "redirect to itself": Answer(b"302 Found\r\nLocation: /set.zip"),
    "redirect without address": Answer(b"301 Moved"),
    "part that nobody asked for": Answer(b"206 Partial Content"),
    "another part": Answer(b"206 Partial Content\r\nContent-Range: bytes 500-600/601"),
    "no status": Answer(b"hello"), "status 999": Answer(b"999 ?"), "error 404": Answer(b"404 Not Found"),
    "error 416": Answer(b"416 Range\r\nContent-Range: bytes */x"), "error 500": Answer(b"500 Broken"),
    "head without end": Answer(b"200 OK\r\n" + b"X: y\r\n" * 200_000),
    "line without end": Answer(b"200 OK\r\nX: " + b"y" * 2_000_000),
    "control characters": Answer(b"404 \x1b[2J\x1b]0;owned\x07"),
    "web page": Answer(body=b"<html>not found</html>"), "nothing": Answer(body=b""),
    "cut zip": Answer(body=GOOD[: len(GOOD) // 2]), "encrypted zip": Answer(body=_encrypted()),
    "name above": Answer(body=archive({"../out.txt": b"x"})),
    "absolute name": Answer(body=archive({"/out.txt": b"x"})),
    "backslashes": Answer(body=archive({"..\\out.txt": b"x"})),
    "link": Answer(body=archive({"set/link": b"/etc"}, stat.S_IFLNK | 0o777)),
    "device": Answer(body=archive({"set/null": b""}, stat.S_IFCHR | 0o666)),
    "pipe": Answer(body=archive({"set/pipe": b""}, stat.S_IFIFO | 0o666)),
    "file and folder of one name": Answer(body=archive({"set/a": b"x", "set/a/b": b"x"})),
    "name of 5000 letters": Answer(body=archive({"set/" + "x" * 5000: b"x"})),
    "bomb": Answer(body=archive({"set/zeros.jpg": bytes(50_000_000)})),
    "names for a terminal": Answer(body=archive({"../\x1b[2J\x1b]0;owned\x07": b"x"})),
    "sticky programs": Answer(body=archive({"set/a.jpg": b"x"}, stat.S_IFREG | 0o6777), may_succeed=True),
}  # fmt: skip


class Server:
    """Answers every request in one way, which can be changed."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/set.zip"
        self.answer = Answer()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self._send, args=(connection, self.answer), daemon=True).start()

    @staticmethod
    def _send(connection: socket.socket, answer: Answer) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            head = answer.head.replace(b"%d", str(len(answer.body)).encode())
            connection.sendall(b"HTTP/1.1 " + head + b"\r\nConnection: close\r\n\r\n")
            for _ in range(answer.repeat):
                connection.sendall(answer.body)
                time.sleep(answer.pause)


def cases(root: Path, count: int, seed: int) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield each wrong answer: its name, and a function that returns what went wrong."""
    server = Server()
    for number, (name, answer) in enumerate(ANSWERS.items()):
        yield name, lambda folder=root / str(number), answer=answer: _try(server, folder, answer)


def _try(server: Server, folder: Path, answer: Answer) -> str:
    folder.mkdir()

    def prepare() -> None:
        download.ARCHIVES[NAME] = download.Archive(server.url)
        download.MAX_DOWNLOAD, download.SLOW_SECONDS = LIMIT, 1.0
        download.SILENCE = 2.0
        download.download = functools.partial(download.download, pauses=(0.0,))  # pyright: ignore

    server.answer = answer
    words = [NAME, str(folder / "set")]
    result = run_in_child(download.main, words, prepare)
    if problem := result.problem or _left(result, folder, answer):
        return problem
    if not result.code:
        return ""
    server.answer = Answer()
    again = run_in_child(download.main, words, prepare)
    return f"the same command then ends with: {again.errors[-200:]}" if again.code else ""


def _left(result: Result, folder: Path, answer: Answer) -> str:
    """Return what is wrong with what a download printed and wrote."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    problems = {
        "it prints control characters of the server": "\x1b" in result.output + result.errors,
        "a file appeared outside the folder": any(
            not path.name.startswith("set") for path in folder.iterdir()
        ),
        "the command succeeds": not (result.code or answer.may_succeed),
        "it fills the disk": sum(path.stat().st_size for path in files) > LIMIT,
        "a program was unpacked": any(path.stat().st_mode & 0o7111 for path in files),
    }
    return next((problem for problem, is_there in problems.items() if is_there), "")
