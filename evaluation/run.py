"""Evaluate a run for test.py: open it, measure it, write and print the results."""

import shlex
from dataclasses import replace
from pathlib import Path

from common.errors import RunError, UserError
from common.run_folder import LOCK, folder_lock, refuse_links
from common.run_main import print_line
from common.user_paths import make_folder
from data.config import DataConfig
from data.folders import held_out_split
from data.values.pixel_limit import set_max_megapixels
from evaluation.evaluate import evaluate
from evaluation.held_out.choose_images import HeldOut
from evaluation.metrics_table import metrics_table
from evaluation.pretrained_networks import find_inception, find_lpips
from evaluation.report import write_report
from evaluation.results import write_metrics
from evaluation.wandb_results import log_results
from inference.open_run import Run, open_run, options_of
from options.config import TestOptions

FEW_IMAGES = 20


def evaluate_run(path: Path, options: TestOptions) -> None:
    """Evaluate the run at `path` on held-out images; write RUN/test, print and log the metrics.

    RunError, at the end, where some images could not be read or written. UserError where the run
    cannot be opened, its domains or channels are not those of `options.data`, or the held-out images
    cannot be evaluated.
    """
    trained = options_of(path).data
    if list(options.data.channels_of().items()) != list(trained.channels_of().items()):
        raise UserError(
            "data.domains and data.channels must be those that the run was trained on: "
            f"{', '.join(trained.domains)}; leave the options out",
            option="data.domains",
            path=path,
        )
    run = open_run(path, options.runtime, options.checkpoint, options.use_ema)
    set_max_megapixels(options.data.max_megapixels)
    split = _split(options, trained, path)
    refuse_links(run.path)
    make_folder(run.path / "test", "run")
    advice = "it evaluates the run; wait until it has ended"
    with folder_lock(run.path, run.path / "test" / LOCK, advice):
        _evaluate_and_write(run, options, split)


def _split(options: TestOptions, trained: DataConfig, path: Path) -> HeldOut:
    """Return which split is evaluated; UserError if the run did not hold out what is asked for."""
    asked = options.data
    held_out = asked.validation or trained.validation
    if options.split == "validation" and not held_out:
        raise UserError(
            "split=validation: this run held out no images; name some with data.test.NAME=FOLDER, or "
            "translate pictures with: "
            f"python translate.py {shlex.quote(str(path))} INPUT OUTPUT",
            option="split", path=path,
        )  # fmt: skip
    split: HeldOut = (
        "validation" if options.split == "validation"
        else held_out_split(replace(asked, validation=held_out * (options.split == "auto")))
    )  # fmt: skip
    if split == "validation":
        if asked.validation != trained.validation:
            raise UserError(
                f"data.validation={asked.validation:g} is not what the run held out "
                f"({trained.validation:g} of its images); leave the option out, or name others with "
                "data.test.NAME=FOLDER",
                option="data.validation", path=path,
            )  # fmt: skip
        print_line(f"the held-out images are those of data.validation={trained.validation}")
    return split


def _evaluate_and_write(run: Run, options: TestOptions, split: HeldOut) -> None:
    """Measure an opened run, and write, print and log the results."""
    inception, no_inception = (
        find_inception(options.inception, run.runtime.device) if options.checks else (None, "")
    )
    lpips, no_lpips = find_lpips(run.runtime.device)
    result = evaluate(
        run, options.data, options.report_images, options.checks, inception, lpips, split,
        options.direction,
    )  # fmt: skip
    metrics, report = write_metrics(run, result, options.data), write_report(run, result)
    for line in metrics_table(result).splitlines():
        print_line(line)
    for note in run.options.method.notes():
        print_line(f"note: {note}")
    fewest = min(each.metrics["images"] for each in result.directions.values())
    if fewest < FEW_IMAGES:
        images = "one image says" if fewest == 1 else f"{fewest} images say"
        print_line(
            f"note: {images} little; {FEW_IMAGES} or more in each domain give useful scores and "
            "intervals"
        )
    for direction, each in result.directions.items():
        for note in each.notes:
            print_line(f"note: {direction}: {note}")
    if split == "validation" and options.checkpoint == "best":
        print_line(
            "note: these images also chose the checkpoint, so its scores are a little too good"
        )
    for leak in result.leaks[:3]:
        print_line(
            f"note: {leak['first']} and {leak['second']} show the same picture ({leak['between']})"
        )
    for reason in filter(None, (no_inception, no_lpips)):
        print_line(reason)
    print_line(f"metrics: {metrics}")
    print_line(f"report:  {report}")
    print_line(log_results(run, result, options.wandb))
    if result.skipped:
        files = "1 image" if len(result.skipped) == 1 else f"{len(result.skipped)} images"
        raise RunError(f"{files} could not be evaluated, see above; the metrics leave them out")
