"""test.py's work: open a run, evaluate it, and write and print the results."""

from pathlib import Path

from common.command import print_line
from common.errors import UserError
from evaluation.evaluate import evaluate
from evaluation.features import find_inception, find_lpips
from evaluation.metrics_table import metrics_table
from evaluation.report import write_report
from evaluation.results import write_metrics
from evaluation.wandb_results import log_results
from inference.open_run import open_run, options_of
from options.config import TestOptions


def evaluate_run(path: Path, options: TestOptions) -> None:
    """Evaluate the run at `path` on its held-out images into RUN/test; print the metrics."""
    trained = options_of(path).data
    if list(options.data.channels_of().items()) != list(trained.channels_of().items()):
        raise UserError(
            f"data.domains and data.channels are those the run was trained on: {trained.domains}",
            option="data.domains",
        )
    run = open_run(path, options.runtime, options.checkpoint, options.use_ema)
    inception, no_inception = (
        find_inception(options.inception, run.runtime.device) if options.checks else (None, "")
    )
    lpips, no_lpips = find_lpips(run.runtime.device)
    result = evaluate(run, options.data, options.report_images, options.checks, inception, lpips)
    metrics, report = write_metrics(run, result, options.data), write_report(run, result)
    print_line(metrics_table(result))
    for note in run.options.method.notes():
        print_line(f"note: {note}")
    for leak in result.leaks[:3]:
        print_line(
            f"note: {leak['first']} and {leak['second']} are one picture ({leak['between']})"
        )
    for reason in filter(None, (no_inception, no_lpips)):
        print_line(reason)
    print_line(f"metrics: {metrics}\nreport:  {report}")
    print_line(log_results(run, result, options.wandb))
