"""Train a translator: python train.py PRESET [option=value ...]; the same command again continues."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.command import print_line, run_command
from common.errors import UserError
from common.user_paths import make_folder, parse_path
from engine.distributed.context import DistributedContext
from engine.hardware.memory import is_out_of_memory
from engine.runtime import Runtime
from options.config import TrainOptions
from options.load import from_yaml, saved_options, to_dict, to_yaml, train_options
from options.resume_check import check_same

if TYPE_CHECKING:  # they open image libraries, and a misspelt option should be answered before
    from engine.schedule import Schedule
    from engine.train_step import TrainStep
    from models.method import Method
    from training.loop import Images, Loop


def main(arguments: list[str]) -> None:
    """Do what the command line asks for, as one of the processes that torchrun has started, or alone."""
    with DistributedContext.from_env() as distributed:
        options = train_options(arguments)
        if options is None:
            return
        if options.summary:
            show_summary(options)
            return
        distributed.init_process_group(options.runtime)
        for each in experiments(options):
            train(each, distributed)


def experiments(options: TrainOptions) -> list[TrainOptions]:
    """Return a run for each of `seeds`, in folders of their own and one W&B group; or the one run."""
    if not options.seeds or options.plan:
        return [options]
    log = replace(options.log, group=options.log.group or Path(options.run).name)
    return [
        replace(options, run=f"{options.run.rstrip('/')}-seed{seed}", seed=seed, seeds=[], log=log)
        for seed in options.seeds
    ]


def train(options: TrainOptions, distributed: DistributedContext | None = None) -> None:
    """Train what `options` describe in the folder options.run, from its last checkpoint if there is one."""
    from common.files import run_lock

    distributed = distributed or DistributedContext()
    options = distributed.call_on_main(lambda: found(options, distributed), wait_forever=True)
    run = parse_path(options.run, "run")
    if options.plan:
        show_plan(options)
        return
    distributed.call_on_main(lambda: make_folder(run, "run"))
    with run_lock(run) if distributed.is_main_process else nullcontext():
        options = distributed.call_on_main(lambda: settle(run, options), wait_forever=True)
        start_or_continue(run, options, distributed)


def found(options: TrainOptions, distributed: DistributedContext) -> TrainOptions:
    """Return the options with whole paths; UserError where what they name is not there or cannot be."""
    from data.folders import find_split, with_absolute_paths
    from data.samples import check_sizes
    from data.scenes import provide
    from engine.checkpoint import Checkpoints

    for option in ("plan", "budget"):
        if getattr(options, option) and distributed.is_distributed:
            raise UserError(f"{option} measures the steps of one process; give it without torchrun")
    options = replace(options, data=with_absolute_paths(options.data))
    provide(options.data.root)
    if options.data.bad_images == "error":  # else they are looked at one by one
        check_sizes(find_split(options.data, "train"), options.data)  # before any folder is made
    origin, begun = parse_path(options.init_from, "init_from"), parse_path(options.run, "run")
    if options.init_from and not origin.exists() and not Checkpoints(begun / "checkpoints").exist():
        raise UserError(f"init_from={options.init_from}: no such file or folder")
    return options


def show_summary(options: TrainOptions) -> None:
    """Print the networks of a run."""
    from models.network_summary import summary

    method = built(options, DistributedContext())
    for line in summary(options.method.name, method, options.data.crop_size):
        print(line)


def show_plan(options: TrainOptions) -> None:
    """Print what the run would take."""
    from training.plan import plan_lines

    for line in plan_lines(options, schedule_of(options)):
        print(line, flush=True)


def schedule_of(options: TrainOptions) -> "Schedule":
    """Return the schedule that the options lay out for their training images."""
    from data.folders import find_split
    from engine.schedule import make_schedule

    longest = max(len(files) for files in find_split(options.data, "train").values())
    return make_schedule(
        options.duration, options.decay_after, options.batch_size, longest, options.warm_up
    )


def settle(run: Path, options: TrainOptions) -> TrainOptions:
    """Return the options as the run is to have them; UserError where its folder holds a run of others.

    Before its first checkpoint a run has nothing to lose: it may be started again with other options.
    A budget is turned into a schedule once, when the run begins.
    """
    from engine.checkpoint import Checkpoints
    from training.image_selection import SKIPPED

    saved = run / "options.yaml"
    begun = saved.exists() and Checkpoints(run / "checkpoints").exist()
    if options.budget:
        from training.plan import apply_budget

        if begun and (before := saved_options(saved)).budget == options.budget:
            laid = {"duration": before.duration, "decay_after": before.decay_after}
            options = replace(options, **laid)
        else:
            options = apply_budget(options, schedule_of(options))
            print_line(f"{options.budget} are enough for {options.duration}")
    if not begun and schedule_of(options).warm_up_exceeds_run:
        raise UserError(
            f"warm_up={options.warm_up} is longer than the run (duration={options.duration})"
        )
    if begun:
        check_same(run, saved_options(saved), options)
    elif saved.is_file() and saved.read_bytes() != to_yaml(options).encode():
        for mark in ("wandb_id", *SKIPPED.values()):  # another experiment
            (run / mark).unlink(missing_ok=True)
    return options


def start_or_continue(run: Path, options: TrainOptions, distributed: DistributedContext) -> None:
    """Build the method and its data, restore the last checkpoint, and train to the end."""
    from common.files import write_text
    from engine.tracking.wandb_artifacts import dataset_artifact, upload_checkpoints
    from engine.tracking.wandb_run import WandbRun, wandb_run_id
    from training.image_selection import usable_files

    runtime = Runtime(options.runtime, distributed)
    method = built(options, distributed)  # before any image is read
    files = distributed.call_on_main(
        lambda: usable_files(options.data, "train", run), wait_forever=True
    )
    loop = loop_of(run, options, method, files, runtime)
    train_step, schedule = loop.train_step, loop.train_step.schedule
    if loop.options_text:  # options.yaml may be another by now
        distributed.call_on_main(
            lambda: check_same(run, from_yaml(loop.options_text, str(run)), options)
        )
    distributed.call_on_main(lambda: write_text(run / "options.yaml", to_yaml(options)))
    if options.init_from and not loop.begun:
        begin_with(parse_path(options.init_from, "init_from"), train_step, options)
    if loop.finished:
        print_line(
            f"{run} is finished: {train_step.step} steps; evaluate it with: python test.py {run}"
        )
        return

    facts = facts_of(run, train_step, files, options) if distributed.is_main_process else {}
    log = options.log if distributed.is_main_process else replace(options.log, wandb="disabled")
    wandb = WandbRun(log, run, wandb_run_id(run) if distributed.is_main_process else "", facts)
    counts = ", ".join(f"{len(paths)} {domain}" for domain, paths in files.items())
    state = f"continues at step {train_step.step}" if train_step.step else "starts"
    where = (
        str(runtime.device)
        if not distributed.is_distributed
        else f"{distributed.world_size} x {runtime.device.type}"
    )
    print_line(
        f"{run} {state}: {options.method.name}, {counts} images, {schedule.steps} steps, on {where}"
    )
    print_line(wandb.message)
    for note in options.method.notes():
        print_line(f"note: {note}")
    wandb.use_artifact(*dataset_artifact(run, options.data))
    distributed.barrier()  # the first has read, hashed and announced: however long that took
    code = 1
    try:
        loop.fit(options.log, options.data.workers, wandb)
        code = 0
        upload_checkpoints(wandb, run, facts)
    finally:
        wandb.finish(code)
    print_line(f"finished: {schedule.steps} steps; evaluate with: python test.py {run}")


def built(options: TrainOptions, distributed: DistributedContext) -> "Method":
    """Return the method with fresh weights; UserError where options, sizes or memory forbid it."""
    import torch

    from models import methods

    torch.manual_seed(options.seed)
    with answered():
        method = methods.find(options.method.name)(options.method, options.data.channels_of())
        for side in options.data.crops():
            method.check_crop_size(side, side)
        if not method.supports_distributed and distributed.is_distributed:
            raise ValueError(f"method.name={options.method.name} is trained by one process")
    return method


def loop_of(
    run: Path, options: TrainOptions, method: "Method", files: Mapping[str, Sequence[Path]], runtime: Runtime
) -> "Loop":  # fmt: skip
    """Return the loop over a run's images, at its last checkpoint if there is one."""
    from engine.run_record import epoch_images_at_start
    from engine.schedule import make_schedule
    from engine.train_step import TrainStep
    from training.image_selection import make_samples
    from training.loop import Loop

    samples = make_samples(
        files, options.data, options.seed, runtime.device, runtime.distributed.local_world_size
    )
    epoch = runtime.distributed.call_on_main(lambda: epoch_images_at_start(run)) or len(samples)
    schedule = make_schedule(
        options.duration, options.decay_after, options.batch_size, epoch, options.warm_up
    )
    samples.set_crop_schedule(schedule.steps, options.batch_size)
    with answered():
        train_step = TrainStep(method, options, schedule, runtime)
    watched = (
        watched_images(run, files, options) if runtime.distributed.is_main_process else ({}, {})
    )
    return Loop(train_step, samples, *watched, run)


def facts_of(
    run: Path, train_step: "TrainStep", files: Mapping[str, Sequence[Path]], options: TrainOptions
) -> dict[str, Any]:
    """Return what is known of a run beside its losses, and record it in its folder."""
    from engine.run_record import record_run

    machine = train_step.runtime.describe()
    recorded = record_run(
        run, train_step.step, files, options.data, options.log.fingerprint, machine
    )
    parameters = {
        name: sum(p.numel() for p in player.parameters())
        for name, player in train_step.optimizer_groups.items()
    }
    return {
        **to_dict(options), **recorded, "parameters": parameters, "steps": train_step.schedule.steps,
        "images": {domain: len(paths) for domain, paths in files.items()},
    }  # fmt: skip


def watched_images(
    run: Path, files: Mapping[str, Sequence[Path]], options: TrainOptions
) -> tuple["Images", "Images"]:
    """Return the images that previews show, and those that score the translators."""
    from training.image_selection import fixed_images, usable_files

    data = options.data
    kept_out = usable_files(data, "validation", run) if data.validation else files
    scored = fixed_images(kept_out, data, options.validation_images)
    return fixed_images(files, data, options.log.previews), scored


@contextmanager
def answered() -> Iterator[None]:
    """Turn what the options or the memory forbid while networks are built into one line."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "the networks do not fit the memory; lower method.generator.channels or blocks, or "
            "method.discriminator.channels"
        ) from None


def begin_with(path: Path, train_step: "TrainStep", options: TrainOptions) -> None:
    """Load weights to start from, say which, and let players that have them wait for those that have not."""
    from training.init_from import fresh_and_trained, load_initial_weights, load_table

    rows = load_initial_weights(train_step.method, path, options.init_strict)
    train_step.restart_ema()
    fresh, trained = fresh_and_trained(train_step.method, rows)
    print_line(f"weights of {path}\n{load_table(rows)}")
    wait = min(options.init_freeze_steps, train_step.schedule.steps // 2)
    if fresh and trained and wait:
        train_step.frozen_until = dict.fromkeys(trained, wait)
        print_line(f"the {' and '.join(trained)} wait {wait} steps for the {' and '.join(fresh)}")


if __name__ == "__main__":
    run_command(main)
