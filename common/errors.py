"""The error whose text is meant for the person at the terminal, and how a command ends on it."""

import os
import re


class UserError(Exception):
    """A mistake that the user can correct: one line that names the option or file and the way out.

    `option` (dotted, without a value) and `path` hold the same facts for programs and tests. Control
    characters in the message are escaped, so that the user's own words cannot break the line or steer
    the terminal; words of more than 160 characters are shortened in the middle.
    """

    def __init__(
        self, message: str, *, option: str = "", path: str | os.PathLike[str] = ""
    ) -> None:
        self.option = option
        self.path = os.fspath(path)
        said = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message.strip())
        super().__init__(
            re.sub(r"\S{161,}", lambda word: f"{word[0][:80]}...{word[0][-60:]}", said)
        )


class RunError(Exception):
    """A run cannot go on, and not by the user's mistake: one line, exit code 1 or the one given."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(Exception):
    """The run was asked to stop and has saved itself; `exit_code` is what the shell expects."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"stopped by signal {exit_code - 128}")
        self.exit_code = exit_code


class PeerExit(Exception):
    """This process leaves with the others of its run; one of them has said why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process has said why")
        self.exit_code = exit_code


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the first line of an error's text, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:limit] if lines else type(error).__name__
