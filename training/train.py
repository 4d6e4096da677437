"""Train a run from its options: resolve it, build its objects, and run the training loop."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from common.errors import Interrupted, UserError, as_user_error
from common.files import write_text
from common.run_folder import run_lock
from common.run_main import print_line
from common.user_paths import make_folder, parse_path
from data.folders import folder_of, listed_once
from data.loader import check_shared_memory
from data.values.pixel_limit import set_max_megapixels
from engine.distributed.context import DistributedContext
from engine.hardware.memory import is_out_of_memory
from engine.loss_names import uses_role_names
from engine.provenance_files import record_run
from engine.runtime import Runtime
from engine.tracking.wandb_artifacts import dataset_artifact, upload_checkpoints
from engine.tracking.wandb_config import wandb_run_id
from engine.tracking.wandb_run import STOP_TIMEOUT, WandbRun
from engine.train_step import TrainStep
from models import methods
from models.method import Method
from models.network_summary import summary
from options.config import TrainOptions
from options.load import from_yaml, to_dict, to_yaml
from options.resume_check import check_same
from training.cost_estimate import plan_lines
from training.image_selection import fixed_images, has_held_out_images, make_samples
from training.init_from import init_weights_from
from training.loop import Loop
from training.metrics_log import read_rows
from training.reporter import Reporter
from training.resolve_run import (
    ResolvedRun,
    accepted_differences,
    check_inputs,
    planned_schedule,
    resolve_run,
)
from training.save_and_restore import RunCheckpoints


def train(options: TrainOptions, distributed: DistributedContext | None = None) -> None:
    """Train the run that `options` describe, from its latest checkpoint if there is one.

    UserError: an option or a file is wrong. Other errors as in `Loop.fit`.
    """
    distributed = distributed or DistributedContext()
    with listed_once():
        _train(options, distributed)


def _train(options: TrainOptions, distributed: DistributedContext) -> None:
    set_max_megapixels(options.data.max_megapixels)
    options = distributed.call_on_main(
        lambda: check_inputs(options, distributed.is_distributed), wait_forever=True
    )
    folder = parse_path(options.run, "run")
    if options.plan:
        for line in plan_lines(options, planned_schedule(options)):
            print_line(line)
        return
    distributed.call_on_main(lambda: make_folder(folder, "run"))
    with run_lock(folder) if distributed.is_main_process else nullcontext():
        runtime = Runtime(options.runtime, distributed)
        method = build_method(options, distributed.is_distributed)  # before any image is read
        run = distributed.call_on_main(lambda: resolve_run(options, folder), wait_forever=True)
        train_resolved(run, method, runtime)


def runs_for_seeds(options: TrainOptions) -> list[TrainOptions]:
    """Return one run for each of `seeds`, each in its own folder, all in one W&B group.

    Without `seeds`, or with `plan`, return the options unchanged as the only run.
    """
    if not options.seeds or options.plan:
        return [options]
    log = replace(options.log, group=options.log.group or Path(options.run).name)
    return [
        replace(options, run=f"{options.run.rstrip('/')}-seed{seed}", seed=seed, seeds=[], log=log)
        for seed in options.seeds
    ]


def print_summary(options: TrainOptions) -> None:
    """Print the networks of a run: shapes, parameters, operations."""
    method = build_method(options)
    for line in summary(options.method.name, method, options.data.crop_size):
        print_line(line)


def build_method(options: TrainOptions, is_distributed: bool = False) -> Method:
    """Return the method with new weights; UserError if options, sizes or memory do not allow it."""
    torch.manual_seed(options.seed)
    with _build_errors():
        method = methods.build(options.method, options.data.channels_of())
        for side in options.data.crops():
            method.check_crop_size(side, side)
    if is_distributed and not method.supports_distributed:
        raise UserError(
            f"method.name={options.method.name} trains in one process only; start it without "
            "torchrun",
            option="method.name",
        )
    return method


def train_resolved(run: ResolvedRun, method: Method, runtime: Runtime) -> None:
    """Train a resolved run to its end; every rank calls this with the same run."""
    options, distributed = run.options, runtime.distributed
    check_shared_memory(
        options.data, options.batch_size // distributed.world_size, distributed.local_world_size
    )
    samples = make_samples(
        run.files, options.data, options.seed, runtime.device, distributed.local_world_size
    )
    samples.set_crop_schedule(run.schedule.steps, options.batch_size)
    with _build_errors():
        train_step = TrainStep(method, options, run.schedule, runtime)
    checkpoints = RunCheckpoints(run.folder, train_step)
    if run.resumes:
        checkpoints.restore()
        saved = from_yaml(checkpoints.options_text, str(run.folder))
        check_same(run.folder, saved, options, accepted_differences(run.folder, saved, options))
    if distributed.is_main_process:
        write_text(run.folder / "options.yaml", to_yaml(options))
    if options.init_from and not run.resumes:
        path = parse_path(options.init_from, "init_from")
        init_weights_from(path, train_step, options.init_strict, options.init_freeze_steps)
    if train_step.finished:
        print_line(f"{run.folder} is finished: {train_step.step} steps")
        _print_next_commands(run, method)
        return

    facts = _record(run, train_step) if distributed.is_main_process else {}
    wandb = _start_wandb(run, facts, distributed.is_main_process)
    _print_start(run, train_step, wandb)
    distributed.barrier()  # wait for the main process, which hashes the images in `_record`
    preview_images, validation_images = _fixed_images(run, distributed.is_main_process)
    reporter = Reporter(run.folder, train_step, wandb, preview_images)
    loop = Loop(
        train_step, samples, checkpoints, reporter, validation_images, options.log,
        options.data.workers, distributed.call_on_main(lambda: _names_in_log(run, train_step)),
    )  # fmt: skip
    exit_code, seconds = 1, None
    try:
        loop.fit()
        exit_code = 0
        upload_checkpoints(wandb, run.folder, facts)
    except Interrupted:
        seconds = STOP_TIMEOUT
        raise
    finally:
        wandb.finish(exit_code, seconds)
    print_line(f"finished: {run.schedule.steps} steps")
    _print_next_commands(run, method)


def _print_next_commands(run: ResolvedRun, method: Method) -> None:
    """Print how to evaluate a finished run and how to translate with it."""
    config, folder = run.options.data, shlex.quote(str(run.folder))
    if has_held_out_images(config):
        print_line(f"evaluate with:  python test.py {folder}")
    else:
        folders = " ".join(f"data.test.{domain}=FOLDER" for domain in config.domains)
        print_line(
            f"no images were held out; evaluate on others: python test.py {folder} {folders}"
        )
    for direction, translator in list(method.translators().items())[:2]:
        pictures = shlex.quote(str(folder_of(config, "train", str(translator.source))))
        print_line(
            f"translate with: python translate.py {folder} {pictures} "
            f"{shlex.quote(str(run.folder / direction))} direction={direction}"
        )


def _fixed_images(run: ResolvedRun, is_main_process: bool) -> tuple[Mapping, Mapping]:
    """Return domain -> images for previews and for validation; empty but on the main process."""
    if not is_main_process:
        return {}, {}
    options = run.options
    return (
        fixed_images(run.files, options.data, options.log.previews),
        fixed_images(run.validation_files, options.data, options.validation_images),
    )


def _names_in_log(run: ResolvedRun, train_step: TrainStep) -> list[str]:
    """Return the domains by which losses are named; none in a run that began with their roles."""
    domains = run.options.data.domains
    rows = read_rows(run.folder / "metrics.jsonl", train_step.step)
    began_with_roles = uses_role_names(next(rows, {}), domains)
    return [] if began_with_roles else domains


def _record(run: ResolvedRun, train_step: TrainStep) -> dict[str, Any]:
    """Write provenance.json and data.json; return their content, options and sizes, for W&B."""
    options = run.options
    recorded = record_run(
        run.folder, train_step.step, run.files, options.data, options.log.fingerprint,
        train_step.runtime.describe(),
    )  # fmt: skip
    parameters = {
        name: sum(p.numel() for p in group.parameters())
        for name, group in train_step.optimizer_groups.items()
    }
    return {
        **to_dict(options), **recorded, "parameters": parameters, "steps": run.schedule.steps,
        "images": {domain: len(paths) for domain, paths in run.files.items()},
    }  # fmt: skip


def _start_wandb(run: ResolvedRun, facts: Mapping[str, Any], is_main_process: bool) -> WandbRun:
    log = run.options.log if is_main_process else replace(run.options.log, wandb="disabled")
    wandb = WandbRun(log, run.folder, wandb_run_id(run.folder) if is_main_process else "", facts)
    wandb.use_artifact(*dataset_artifact(run.folder, run.options.data))
    return wandb


def _print_start(run: ResolvedRun, train_step: TrainStep, wandb: WandbRun) -> None:
    runtime, options = train_step.runtime, run.options
    counts = ", ".join(
        f"{len(paths)} {domain}"
        + (f" ({len(run.validation_files[domain])} held out)" if options.data.validation else "")
        for domain, paths in run.files.items()
    )
    state = f"continues at step {train_step.step}" if train_step.step else "starts"
    processes = runtime.distributed.world_size
    device = str(runtime.device) if processes == 1 else f"{processes} x {runtime.device.type}"
    print_line(
        f"{run.folder} {state}: {options.method.name}, {counts} images, "
        f"{run.schedule.steps} steps, on {device}"
    )
    print_line(wandb.message)
    for note in options.method.notes():
        print_line(f"note: {note}")


@contextmanager
def _build_errors() -> Iterator[None]:
    """Raise UserError for options that do not fit together, or networks that do not fit memory."""
    try:
        yield
    except ValueError as error:
        raise as_user_error(error) from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "the networks do not fit into memory; lower method.generator.channels or blocks, or "
            "method.discriminator.channels",
            option="method.generator.channels",
        ) from None
