"""Run a command's main function and turn its errors into one line and an exit code."""

import io
import os
import sys
from collections.abc import Callable

from common.errors import Interrupted, PeerExit, RunError, UserError, one_line

VERSION = "0.9.0"


def print_line(line: str) -> None:
    """Print a line and flush it; once the reader has closed the pipe (`| head`), print nothing."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_command(main: Callable[[list[str]], int | None]) -> None:
    """Run `main(argv)` and exit the process with its exit code; --version prints and exits.

    0: done. 1: failure while running (a traceback means a bug in this software). 2: mistake of the
    user (one line). 3: NaN or infinite loss or gradient. 130: Ctrl-C. 143: SIGTERM. A closed output
    (`| head`) ends the command with code 0 and without a message.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may not be valid text
    try:
        if "--version" in sys.argv[1:]:
            print(f"Diptych {VERSION}")
            code = 0
        else:
            code = main(sys.argv[1:]) or 0
        sys.stdout.flush()
    except (UserError, RunError, Interrupted, PeerExit) as error:
        code = print_error(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def print_error(error: UserError | RunError | Interrupted | PeerExit, aloud: bool = True) -> int:
    """Return the exit code of an error; print its line if it has one and `aloud` is true."""
    if aloud and isinstance(error, UserError | RunError):
        print(f"error: {one_line(error)}", file=sys.stderr)
    return 2 if isinstance(error, UserError) else error.exit_code
