"""Names of files cannot control the terminal, whatever prints them."""

import io
import subprocess
import sys

import pytest

from common.progress import fraction_bar, with_progress
from common.terminal import EscapingStream, printable, raw_stream
from tests.conftest import ROOT

NAME = "a\x1b]0;owned\x07\x1b[2J\rb\u202e.png"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_control_characters_and_undecodable_bytes_are_escaped():
    assert printable(NAME) == r"a\x1b]0;owned\x07\x1b[2J\rb\u202e.png"
    assert printable("é 😀\n") == r"é 😀\n" and printable("é\n", "\n") == "é\n"
    assert printable("\udcff") == r"\udcff"


def test_a_stream_escapes_what_is_printed_and_bars_reach_the_terminal():
    inner = Terminal()
    stream = EscapingStream(inner)
    print(NAME, "x", sep="\t", file=stream)
    assert inner.getvalue() == printable(NAME) + "\tx\n"
    assert raw_stream(stream) is inner and raw_stream(inner) is inner and stream.isatty()
    list(with_progress([1, 2], 2, NAME, stream))  # pyright: ignore[reportArgumentType]
    with fraction_bar(NAME, stream) as report:  # pyright: ignore[reportArgumentType]
        report(0.5)
    drawn = inner.getvalue()
    assert "\r\x1b[K" in drawn and "\x1b]0" not in drawn and "\x1b[2J" not in drawn


@pytest.mark.parametrize("call", ["print(NAME)", "print_line(NAME)", "raise RunError(NAME)",
                                  "raise ValueError(NAME)", "print_beside_bar(NAME)"])  # fmt: skip
def test_no_way_of_printing_reaches_the_terminal_raw(call):
    script = (
        "from common.errors import RunError\nfrom common.progress import print_beside_bar\n"
        "from common.run_main import print_line, run_command\n"
        f"NAME = {NAME!r}\ndef main(arguments):\n    {call}\nrun_command(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, cwd=ROOT, check=False
    )
    output = done.stdout + done.stderr
    assert b"owned" in output and not set(output) & {0x1B, 0x07, 0x0D}
