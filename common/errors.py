"""The exceptions that end a command in one line or none, and their exit codes."""

import os
import re

from common.terminal import printable


class UserError(Exception):
    """A mistake that the user can correct: one line that names the option or file and what to do.

    `option` (dotted, without a value) and `path` hold the same facts for programs and tests.
    Control characters in the message are escaped, so that user input cannot break the line or
    control the terminal; words of more than 160 characters are shortened in the middle.
    """

    def __init__(
        self, message: str, *, option: str = "", path: str | os.PathLike[str] = ""
    ) -> None:
        self.option = option
        self.path = os.fspath(path)
        line = printable(message.strip())
        super().__init__(
            re.sub(r"\S{161,}", lambda word: f"{word[0][:80]}...{word[0][-60:]}", line)
        )


def as_user_error(error: ValueError, path: str | os.PathLike[str] = "") -> UserError:
    """Return a UserError with the text and the option of a ValueError of models/.

    The text of such an error begins with the option, `method.NAME` or `data.NAME`.
    """
    words = (word.partition("=")[0].strip(":;,") for word in str(error).split())
    option = next((word for word in words if word.startswith(("method.", "data."))), "")
    return UserError(str(error), option=option, path=path)


class RunError(Exception):
    """A run cannot continue, but not by the user's mistake: one line and an exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(Exception):
    """A signal stopped the run after a checkpoint; `exit_code` is 128 + the signal's number."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"stopped by signal {exit_code - 128}")
        self.exit_code = exit_code


class PeerExit(Exception):
    """This process exits because another process of its run failed and reported the error."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process reported the error")
        self.exit_code = exit_code


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the first line of an error's text, or the name of its class if the text is empty."""
    lines = str(error).strip().splitlines()
    return lines[0][:limit] if lines else type(error).__name__
