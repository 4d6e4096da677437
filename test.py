"""Evaluate a run on its held-out images: python test.py RUN [option=value ...]."""

from dataclasses import replace

from common.command import run_command
from common.errors import UserError
from common.user_paths import parse_path
from options.config import TestOptions
from options.load import with_settings

USAGE = """\
usage: python test.py RUN [option=value ...]

Translates every held-out image in every direction into RUN/test, and writes RUN/test/metrics.json and
RUN/test/report.html. RUN is a folder that train.py made. data.* default to what the run was trained on.
"""


def main(arguments: list[str]) -> None:
    """Do what the command line asks for."""
    if not arguments or arguments[0] in ("-h", "--help"):
        if arguments:
            with_settings(TestOptions(), ["--help"], USAGE)
            return
        raise UserError("name a run, such as: python test.py runs/demo; --help explains")
    from inference.open_run import open_run, options_of

    path, settings = parse_path(arguments[0]), arguments[1:]
    whole = replace(options_of(path).data, limit=0)  # a training run's limit is not the test's
    options = with_settings(TestOptions(data=whole), settings, USAGE)
    if options is None:
        return
    trained = options_of(path).data
    if list(options.data.channels_of().items()) != list(trained.channels_of().items()):
        raise UserError(
            f"data.domains and data.channels are what the run was trained on: {trained.domains}"
        )

    from evaluation.evaluate import evaluate, write_metrics
    from evaluation.features import find_inception, find_lpips
    from evaluation.metrics_table import figures_table
    from evaluation.report import write_report
    from evaluation.wandb_results import log_figures

    run = open_run(path, options.runtime, options.checkpoint, options.weights)
    inception = find_inception(options.inception, run.runtime.device) if options.checks else None
    lpips = find_lpips(run.runtime.device)
    features = None if isinstance(inception, str) else inception
    result = evaluate(
        run,
        options.data,
        options.report_images,
        options.checks,
        features,
        None if isinstance(lpips, str) else lpips,
    )
    metrics = write_metrics(run, result, options.data)
    report = write_report(run, result)
    print(figures_table(result.figures, result.floor, result.ceiling))
    for note in run.options.method.notes():
        print(f"note: {note}")
    for leak in result.leaks[:3]:
        print(f"note: {leak['first']} and {leak['second']} show one picture ({leak['between']})")
    for missing in (inception, lpips):
        if isinstance(missing, str):
            print(missing)
    print(f"metrics: {metrics}\nreport:  {report}")
    print(log_figures(run, result, options.wandb))


if __name__ == "__main__":
    run_command(main)
