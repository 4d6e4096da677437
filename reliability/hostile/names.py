"""Give images hostile names, run every command on them, and parse all that is printed and written.

No control character may reach the terminal, no name may become markup, and every HTML, JSON and CSV
file must parse.
"""

import csv
import io
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

from PIL import Image

from comparison import metrics_table, preference
from data.doctor import __main__ as doctor
from reliability.command_in_child import Result, run_in_child
from reliability.hostile.workplace import COMMANDS, Workplace

NAMES = (
    b"two words.png", b"-rf.png", b"--help.png", b"new\nline.png", b"car\rriage.png", b"tab\t.png",
    b"\x1b[2J\x1b]0;owned\x07.png", b"\x1b[31mred.png", b"bell\x07.png", b"<script>alert(1)<|script>.png",
    b"<!--<script>.png", b"]]>.png", b"'\";--.png", b"&amp;&lt;.png", b"%s%n {0} ${x}.png",
    b"$(touch owned).png", b"`touch owned`.png", b";touch owned;.png", b"|touch owned.png",
    b"\" onerror=alert(1) x=\".png", b"a=b.png", b"[1,2].png", b"{a: b}.png",
    b"null.png", b"=1+1.png", b"comma,quote\".png",
    b"caf\xe9.png", b"\xff\xfe.png", "\u6c34\U0001f600.png".encode(), "\u202egnp.exe.png".encode(),
    b"x" * 250 + b".png", b"|pipe| *bold* _it_ [link](x).png", b"CON.png", b"a.png.png", b"~.png",
    b"#hash?query.png", b"UPPER.PNG", "\u2028\u2029.png".encode(), b"\x7f\x9b31m.png",
)  # fmt: skip


class _Page(HTMLParser):
    """Collects the scripts of a page, and counts its event handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.handlers = 0
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handlers += sum(name.startswith("on") for name, _ in attrs)
        if tag == "script":
            self._inside = True
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def cases(root: Path, count: int, seed: int) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield each command: its name, and a function that runs it and returns what went wrong."""
    plain, hostile = Workplace(root / "plain"), Workplace(root / "hostile")
    for place, names in ((plain, [b"%03d.png" % n for n in range(len(NAMES))]), (hostile, NAMES)):
        for folder, broken in (("trainA", 40), ("trainB", 40), ("testA", 3), ("testB", 3)):
            write_named_images(place.data / folder, list(names), broken)
    active: dict[str, tuple[int, int]] = {}

    def two_runs(place: Workplace) -> list[str]:
        shutil.copytree(place.run, place.root / "run2", symlinks=True, dirs_exist_ok=True)
        page = place.root / "preference.html"
        return [str(place.run), str(place.root / "run2"), f"out={page}"]

    steps: list[tuple[str, ModuleType, Callable[[Workplace], list[str]]]] = [
        ("doctor", doctor, lambda p: [str(p.data), f"out={p.root / 'doctor'}"]),
        *((name, COMMANDS[name], lambda p, name=name: p.words(name))
          for name in ("train", "test", "translate", "export")),
        ("preference", preference, two_runs),
        ("metrics_table", metrics_table, lambda p: two_runs(p)[:2]),
    ]  # fmt: skip
    for name, module, words in steps:

        def check(
            name: str = name, module: ModuleType = module,
            words: Callable[[Workplace], list[str]] = words,
        ) -> str:  # fmt: skip
            expected = run_in_child(module.main, words(plain))
            if expected.code not in (0, 1):  # 1: some pictures are unreadable
                return f"with plain names: {expected.errors[-300:]}"
            result = run_in_child(module.main, words(hostile), lambda: os.chdir(hostile.root))
            if expected.code != result.code:
                return f"exit code {result.code}, {expected.code} with plain names: {result.errors[-300:]}"
            active.update(_active_parts(plain.root))
            return result.problem or _printed(result) or _written(hostile.root, active)

        yield f"{name}, {len(NAMES)} names", check


def write_named_images(folder: Path, names: list[bytes], broken: int) -> None:
    """Write one picture under each name; the last of every `broken` names is unreadable."""
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            if number % broken == broken - 1:
                file.write(b"no picture")
                continue
            Image.new("RGB", (24, 20), (number * 5, 90, 200 - 5 * number)).save(file, "PNG")


def _printed(result: Result) -> str:
    """Return a control character in what was printed, other than those of the progress bar."""
    for text in (result.output, result.errors):
        for character in text:
            if unicodedata.category(character) in ("Cc", "Zl", "Zp") and character != "\n":
                return f"prints the control character {character!r}"
    return ""


def _active_parts(root: Path) -> dict[str, tuple[int, int]]:
    """Return the pages below a folder -> their numbers of scripts and of event handlers."""
    pages = {
        str(path.relative_to(root)): _parsed(path.read_text()) for path in root.rglob("*.html")
    }
    return {name: (len(page.scripts), page.handlers) for name, page in pages.items()}


def _parsed(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    page.close()
    return page


def _written(root: Path, active: dict[str, tuple[int, int]]) -> str:
    """Return what is wrong with the files that a command wrote."""
    if any(root.rglob("owned")):
        return "a name was run as a command"
    for path in sorted(root.rglob("*")):
        if not path.is_file():
            continue
        problem = _file_problem(path, active.get(str(path.relative_to(root)), (0, 0)))
        if problem:
            return f"{path.relative_to(root)}: {problem}"
    return ""


def _file_problem(path: Path, active: tuple[int, int]) -> str:
    try:
        if path.suffix == ".html":
            page = _parsed(path.read_text(encoding="utf-8"))
            if (found := (len(page.scripts), page.handlers)) != active:
                return f"scripts and event handlers: {found}, {active} with plain names"
            if any("alert(1)" in text and "<" in text for text in page.scripts):
                return "a name is markup in a script"
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".jsonl":
            for line in path.read_text(encoding="utf-8").splitlines():
                json.loads(line)
        elif path.suffix == ".csv":
            rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
            if len({len(row) for row in rows if row}) > 1:
                return "rows of different lengths"
        elif path.suffix == ".md" and re.search(r"[\x00-\x09\x0b-\x1f\x7f]", path.read_text()):
            return "a control character"
    except (ValueError, csv.Error) as error:
        return f"does not parse: {error}"
    return ""
