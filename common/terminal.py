"""Keep control characters of file names and other foreign text away from the terminal."""

from typing import Any, TextIO


def printable(text: str, keep: str = "") -> str:
    """Return a text whose control characters and undecodable bytes are escaped; `keep` are not."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


class EscapingStream:
    """A text stream that escapes everything it is given, except ends of lines and tabs.

    A file may have a name that moves the cursor or renames the window of a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text with its control characters escaped."""
        return self.stream.write(printable(text, "\n\t"))

    def writelines(self, lines: Any) -> None:
        """Write lines with their control characters escaped."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def raw_stream(stream: Any) -> Any:
    """Return the stream that takes control characters, for bars that are drawn on a terminal."""
    return stream.stream if isinstance(stream, EscapingStream) else stream
