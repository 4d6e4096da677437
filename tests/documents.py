"""Extract the commands and links of README.md and docs/*.md, so that tests can check them."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("python", "pip", "make", "torchrun", "srun", "wandb", "git", ".")

# The beginnings of blocks that are neither commands nor Python.
TEXTS = (
    "train.py test.py translate.py export.py  ",  # the tree of README.md
    "pictures/train/photo",  # the layout of image folders
    "common  <  models",  # the layers
    "# Plain (Author, year)",  # a preset of docs/adding_a_method.md
    "| `plain` |",  # its row
)


@dataclass(frozen=True)
class Command:
    """A command on a page; `whole` if it is in a block and can be run unchanged."""

    page: str
    line: int
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of every fenced or indented block."""
    lines = [*page.read_text(encoding="utf-8").splitlines(), "", ""]
    fence, start, found = False, 0, []
    for number, line in enumerate(lines[:-1], 1):
        if line.startswith("```"):
            if fence:
                yield start, "\n".join(found) + "\n"
            fence, start, found = not fence, number + 1, []
        elif fence:
            found.append(line)
        elif line.startswith("    ") and (found or not lines[number - 2].strip()):
            start = start if found else number
            found.append(line[4:])
        elif found and (line.strip() or not lines[number].startswith("    ")):
            yield start, "\n".join(found) + "\n"
            found = []
    assert not fence, f"{page}: a block is not closed"


def inline(page: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of all code in backticks outside blocks."""
    fence = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence ^= line.startswith("```")
        if not fence and not line.startswith(("    ", "```")):
            for found in re.findall(r"`([^`]+)`", line):
                yield number, found


def commands(page: Path) -> list[Command]:
    """Return every command on a page; AssertionError for a block of unknown kind."""
    found = []
    name = page.relative_to(ROOT).as_posix()
    for start, text in blocks(page):
        first = text.split()[0]
        script = first.startswith("#!")
        if not script and first not in PROGRAMS:
            assert text.startswith(TEXTS) or is_python(text), f"{name}:{start}: what is this block?"
            continue
        for line, words in _lines(start, text):
            if words and (not script or "train.py" in words):
                assert words[0] in PROGRAMS, f"{name}:{line}: unknown program {words[0]}"
                found.append(Command(name, line, tuple(words), not script))
    for line, text in inline(page):
        if text.split()[0] in PROGRAMS[:-1] and " " in text:
            found.append(Command(name, line, tuple(shlex.split(text)), False))
    return found


def is_python(text: str) -> bool:
    """Return whether a block is Python."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _lines(start: int, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the words of every line; a line that ends with a backslash is joined to the next."""
    waiting = ""
    for number, line in enumerate(text.splitlines(), start):
        waiting += line
        if waiting.endswith("\\"):
            waiting = waiting[:-1]
            continue
        words = (
            shlex.split(waiting, comments=True)
            if "train.py" in waiting or "'" not in waiting
            else []
        )
        yield number, [word for word in words if word != "&"]
        waiting = ""


def links(page: Path) -> Iterator[str]:
    """Yield the targets of links inside the project, including a fragment after #."""
    lines = page.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("    "))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" not in target:
            yield target


def anchors(page: Path) -> set[str]:
    """Return the link anchors of the headings on a page."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
