"""Run a command's main function, and turn errors into one line and an exit code."""

import io
import os
import sys
from collections.abc import Callable

from common.errors import Interrupted, PeerExit, RunError, UserError, one_line


def print_line(line: str) -> None:
    """Print a line at once; where nobody reads any more (`| head`), go on in silence."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_command(main: Callable[[list[str]], int | None]) -> None:
    """Run `main(argv)` and leave the process with its exit code.

    0 done, 1 failure while running (a traceback means a bug of ours), 2 the user's mistake (one
    line), 3 a loss that is not finite, 130 Ctrl-C and 143 SIGTERM. A closed output
    (`| head`) ends the command quietly.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
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
    """Print the line of an error that has one, where `aloud`; return the exit code."""
    if aloud and isinstance(error, UserError | RunError):
        print(f"error: {one_line(error)}", file=sys.stderr)
    return 2 if isinstance(error, UserError) else error.exit_code
