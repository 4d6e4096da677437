"""Evaluate a run on its held-out images: python test.py RUN [option=value ...]."""

from dataclasses import replace

from common.errors import UserError
from common.run_main import run_command
from common.user_paths import parse_path
from engine.hardware.device import RuntimeConfig
from evaluation.run import evaluate_run
from inference.open_run import options_of
from options.config import TestOptions
from options.load import with_settings

USAGE = """\
usage: python test.py RUN [option=value ...]

Translates every held-out image in every direction into RUN/test, and writes RUN/test/metrics.json
and RUN/test/report.html. RUN is a folder made by train.py. The defaults of data.* are those of the
training run, as are runtime.threads and runtime.precision.
"""


def main(arguments: list[str]) -> None:
    """Evaluate the run that the command line names."""
    if not arguments:
        raise UserError("name a run, such as: python test.py runs/demo; --help shows all options")
    if arguments[0] in ("-h", "--help"):
        with_settings(TestOptions(), ["--help"], USAGE)
        return
    path = parse_path(arguments[0])
    trained = options_of(path)
    data = replace(trained.data, limit=0)  # data.limit is for training only
    runtime = RuntimeConfig(threads=trained.runtime.threads, precision=trained.runtime.precision)
    options = with_settings(TestOptions(data=data, runtime=runtime), arguments[1:], USAGE)
    if options is not None:
        evaluate_run(path, options)


if __name__ == "__main__":
    run_command(main)
