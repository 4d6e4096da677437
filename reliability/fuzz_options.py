"""Fuzz command lines and preset files: each is accepted or refused in one line."""

import contextlib
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from common.errors import UserError, one_line
from models import methods
from options.config import TrainOptions
from options.introspection import option_fields
from options.load import from_yaml, to_yaml, train_options
from options.presets import PRESETS
from reliability.fuzz_harness import Case
from reliability.mutate_bytes import damaged

ROOT = Path(__file__).resolve().parents[1]
HOSTILE_VALUES = (
    "", "nan", ".nan", "inf", "-.inf", "1e400", "1e-320", "-1", "0", "-0.0", "9" * 23, "1" * 5000,
    "null", "~", "true", "no", "[", "[1,2", "[[[[", "{", "{a: 1}", "{a: {b: [1, {c: 2}]}}",
    "[" * 500, "{a: " * 500, "}", "[a,a]", "[nan]", "[[1],[2]]", "a,b,,", "${seed}",
    "${oc.env:HOME}", "${", "$", "${a.${b}}", "${eval:1}",
    "!!python/object/apply:os.system ['touch marker']", "!!python/name:os.system", "!!binary aGk=",
    "!!binary x", "!!set {a}", "!!timestamp 2001-01-01", "!!omap [a: 1]", "!<tag:x> y", "!a b",
    "!!int x", "!!float y", "&a [*a]", "*a", "&a 1", "<<: *x", "0777", "0x10", "0b2", "1_000",
    "12:30:45", "2026-01-01", "1.2.3", "1e5", "日本語", "\u202e", "\ud800", "\udcff", "\U0001f600",
    "\0", "\x1b[2J", "\x85", "\ufeff", "a\nb", "\r\n", "\t", "'", '"', "-", "--", "=", "==", "a=b",
    ":", ": ", "? a", "| x", "> y", "%", "@", "`", "- a", "#", "a #b", "~nobody-here/x", "x" * 5000,
    "y/" * 3000, "../../x", "/", "/dev/null", "~root", "x" * 300, "\\", "\\0", "%s%n", "{0}",
    "__class__", "1" + "0" * 400,
)  # fmt: skip
HOSTILE_BLOCKS = (
    "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n", "<<: {seed: 1}\n", "? [a]\n: 1\n",
    "--- \n...\n", "seed: 1\nseed: 2\n", "data: {root: {x: 1}}\n",
    "method: {name: cyclegan, name: x}\n", "%YAML 9.9\n---\n", "data:\n  train: {a: 1, b: [2]}\n",
    "1: 2\n", "null: 3\n", "[a, b]: c\n", "method: 7\n", "data: null\n",
    "run: !!python/object/apply:os.system ['touch marker']\n", "base: ../demo\n",
    "base: /dev/null\n", "base: ''\n", "log: {tags: {a: b}}\n", "data.root: x\n",
    "'data': {'root': \"\\u0000\"}\n", "x: |\n  " + "y" * 9000 + "\n", "seed: " + "[" * 3000 + "\n",
    "a: " * 200 + "\n", "method: {generator: {blocks: {channels: 1}}}\n",
)  # fmt: skip


def cases(count: int, seed: int) -> Iterator[Case]:
    """Yield command lines (as JSON lists) and preset files in alternation."""
    names = [
        field.name
        for field in option_fields(TrainOptions, {"method": methods.find("cyclegan").Config})
    ]
    names += ["data.train.a", "data.test.b", "base", "method", "data", "log"]
    texts = [path.read_bytes() for path in sorted(PRESETS.glob("*.yaml"))]
    demo = train_options(["demo"])
    assert demo is not None
    texts += [to_yaml(demo).encode()] * 4
    yield Case("words.json", b'["demo"]')
    for number in range(count - 1):
        draw = random.Random(f"options/{seed}/{number}")
        if number % 2:
            yield Case("preset.yaml", damaged_preset(texts, names, draw))
        else:
            yield Case("words.json", json.dumps(random_command_line(names, draw)).encode())


def random_command_line(names: list[str], draw: random.Random) -> list[str]:
    """Return a command line with one to four hostile or misspelled options."""
    line = (
        ["demo"]
        if draw.random() < 0.9
        else [draw.choice((*HOSTILE_VALUES, "dem", "cyclegan", "--list"))]
    )
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        name, value = draw.choice(names), draw.choice(HOSTILE_VALUES)
        if draw.random() < 0.2:
            name = misspelled(name, draw)
        if draw.random() < 0.2:
            value = draw.choice(("1", "8", "0.5", "cpu", "[a,b]", "true", "20 steps")) + value
        prefix = draw.choice(("", "", "", "", "--", "-"))
        line.append(prefix + name + draw.choice(("=",) * 9 + ("",)) + value)
    if draw.random() < 0.1:
        invalid_utf8 = draw.randbytes(9).decode(errors="surrogateescape")
        line.append(draw.choice((*HOSTILE_VALUES, "--help", "-h", invalid_utf8)))
    return line


def misspelled(name: str, draw: random.Random) -> str:
    """Return a name with a missing, doubled or changed letter, or with a wrong part of its path."""
    at = draw.randrange(len(name))
    return draw.choice((
        name[:at] + name[at + 1 :], name[: at + 1] + name[at:],
        name[:at] + draw.choice("xé.[]_ -") + name[at + 1 :], name.upper(), name.replace(".", ".."),
        name + "[0]", name + ".x", "." + name, name.rpartition(".")[2],
    ))  # fmt: skip


def damaged_preset(texts: list[bytes], names: list[str], draw: random.Random) -> bytes:
    """Return a preset file with damaged bytes, a changed line, or a hostile block of YAML."""
    text = draw.choice(texts)
    kind = draw.random()
    if kind < 0.35:
        return damaged(text, texts, draw)[1]
    lines = text.decode().splitlines(keepends=True)
    at = draw.randrange(len(lines))
    if kind < 0.6:
        name, value = draw.choice(names), draw.choice(HOSTILE_VALUES)
        lines[at] = f"{'  ' * draw.randint(0, 2)}{name.rpartition('.')[2]}: {value}\n"
    elif kind < 0.8:
        lines.insert(at, draw.choice(HOSTILE_BLOCKS))
    elif kind < 0.9:
        lines[at] = draw.choice((" ", "\t", "- ", "? ", "")) + lines[at].lstrip() * draw.randint(
            1, 3
        )
    else:
        return draw.choice(HOSTILE_BLOCKS).encode() + draw.choice((b"", b"\0", b"\xff\xfe", text))
    return "".join(lines).encode(draw.choice(("utf-8",) * 9 + ("utf-16",)), errors="surrogatepass")


def command_line(path: Path) -> list[str]:
    """Return the arguments of train.py for the file of a case."""
    return json.loads(path.read_bytes()) if path.name.endswith(".json") else [str(path)]


def check(path: Path) -> str:
    """Read the options as train.py does, write and read them again, and build the networks.

    The networks are built on the meta device, because their memory use is not tested here.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            options = train_options(command_line(path))
        if options is None:
            return "answered with help"
        if from_yaml(to_yaml(options), "again") != options:
            raise AssertionError("the options differ after they were written and read again")
        with torch.device("meta"), contextlib.suppress(ValueError):  # train.py reports ValueError
            methods.build(options.method, options.data.channels_of())
        return "accepted"
    except UserError as error:
        return check_error(str(error))
    finally:
        assert not os.path.exists("marker"), "code was run"


def check_error(text: str) -> str:
    """Check that an error is one line of text; return the outcome."""
    shown = one_line(UserError(text))
    if not text.strip() or not shown or "\n" in text.strip() or "Error(" in shown:
        raise AssertionError(f"not one line: {text[:300]!r}")
    return "refused in one line"


def check_in_shell(path: Path) -> str:
    """Run train.py without data in a subprocess; it must end with exit code 2 and one line."""
    line = [word.encode(errors="surrogateescape") for word in command_line(path)]
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *line, "data.root=/nonexistent/images"],
        capture_output=True, check=False, timeout=110, cwd=path.parent,
    )  # fmt: skip
    error = done.stderr.decode(errors="replace")
    help_words = {b"--help", b"-h", b"--list"} & set(line)
    if done.returncode == 0 and help_words and not error:
        return "answered with help in the shell"
    if done.returncode != 2 or not error.startswith("error: ") or error.count("\n") != 1:
        raise AssertionError(f"exit code {done.returncode}: {error[-1500:]}")
    return "refused with code 2 in the shell"


def shell_cases(count: int, seed: int) -> Iterator[Case]:
    """Yield `count` cases that a shell can pass on: without zero bytes or invalid file names."""
    yielded = 0
    for case in cases(10_000, seed + 1):
        if yielded == count:
            return
        with contextlib.suppress(UnicodeEncodeError, ValueError):
            if case.name.endswith(".json"):
                line = json.loads(case.content)
                if any("\0" in word or not word.encode(errors="surrogateescape") for word in line):
                    continue
            yielded += 1
            yield case
