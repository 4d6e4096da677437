"""Run a command's main function and turn its errors into one line and an exit code."""

import errno
import io
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from common.errors import Interrupted, PeerExit, RunError, UserError, one_line
from common.signals import end_after_interrupt
from common.terminal import EscapingStream, printable
from common.threads import THREAD_NAME

REFUSED = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)
VERSION = "0.9.0"


def print_line(line: str) -> None:
    """Print a line and flush it; once the reader has closed the pipe (`| head`), print nothing.

    Control characters, also ends of lines in names of files, are escaped.
    """
    try:
        print(printable(line), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_exits_at_once = threading.Event()


def exit_without_waiting() -> None:
    """Have `run_command` end the process without threads and exit handlers that wait."""
    _exits_at_once.set()


def run_command(main: Callable[[list[str]], int | None]) -> None:
    """Run `main(argv)` and exit the process with its exit code; --version prints and exits.

    0: done. 1: failure while running (a traceback means a bug in this software). 2: mistake of the
    user (one line). 3: NaN or infinite loss or gradient. 130: Ctrl-C. 143: SIGTERM. A closed output
    (`| head`) ends the command with code 0 and without a message.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may not be valid text
    sys.stdout, sys.stderr = EscapingStream(sys.stdout), EscapingStream(sys.stderr)
    try:
        if "--version" in sys.argv[1:]:
            print(f"Diptych {VERSION}")
            code = 0
        else:
            with end_after_interrupt():
                code = main(sys.argv[1:]) or 0
        sys.stdout.flush()
    except (UserError, RunError, PeerExit) as error:
        code = print_error(error)
    except (Interrupted, KeyboardInterrupt) as error:
        code = getattr(error, "exit_code", 130)
        if isinstance(error, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
        if threading.active_count() > 1:  # a thread may wait for a disk or a server without end
            exit_without_waiting()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = _print_refused(error)
    except MemoryError:
        print("error: not enough memory for a file or for these options", file=sys.stderr)
        code = 1
    # After an error nobody waits for the results that other threads still compute.
    is_mapping = any(each.name.startswith(THREAD_NAME) for each in threading.enumerate())
    if _exits_at_once.is_set() or (code and is_mapping):
        with suppress(OSError):  # a closed pipe
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _print_refused(error: OSError) -> int:
    """Print the file that the system refuses, and why; return 2. Other errors are raised again."""
    if error.errno not in REFUSED or error.filename is None:
        raise error
    path = printable(os.fsdecode(error.filename))
    print(
        f"error: {path}: {error.strerror}; check its permissions, or name another path",
        file=sys.stderr,
    )
    return 2


def print_error(error: UserError | RunError | Interrupted | PeerExit, aloud: bool = True) -> int:
    """Return the exit code of an error; print its line if it has one and `aloud` is true."""
    if aloud and isinstance(error, UserError | RunError):
        print(f"error: {one_line(error)}", file=sys.stderr)
    return 2 if isinstance(error, UserError) else error.exit_code
