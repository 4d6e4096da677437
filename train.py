"""Train a translator: python train.py PRESET [option=value ...]; the same command again continues."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.runtime import Runtime
from errors import UserError, run_command, say
from options.config import TrainOptions
from options.load import check_same, saved_options, to_dict, to_yaml, train_options

if TYPE_CHECKING:  # they open image libraries, and a misspelt option should be answered before
    from engine.schedule import Schedule
    from engine.trainer import Trainer


def main(arguments: list[str]) -> None:
    """Do what the command line asks for."""
    options = train_options(arguments)
    if options is not None:
        train(options)


def train(options: TrainOptions) -> None:
    """Train what `options` describe in the folder options.run, from its last checkpoint if there is one."""
    from data.folders import absolute, find_split
    from data.loading import check_sizes
    from data.scenes import provide
    from engine.state import sole_owner

    options = replace(options, data=absolute(options.data))
    provide(options.data.root)
    if options.data.bad_images == "error":  # else they are looked at one by one
        check_sizes(find_split(options.data, "train"), options.data)  # before any folder is made
    if options.init_from and not Path(options.init_from).expanduser().exists():
        raise UserError(f"init_from={options.init_from}: no such file or folder")
    run = Path(options.run).expanduser()
    if options.plan:
        show_plan(options)
        return
    claim(run)
    with sole_owner(run):
        options = settle(run, options)
        start_or_continue(run, options)


def claim(run: Path) -> None:
    """Make the run folder; UserError where that is not possible."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run={str(run)[:80]}: cannot be made ({error.strerror})") from None


def show_plan(options: TrainOptions) -> None:
    """Print what the run would take."""
    from options.planning import planned

    for line in planned(options, schedule_of(options)):
        print(line, flush=True)


def schedule_of(options: TrainOptions) -> "Schedule":
    """Return the schedule that the options lay out for their training images."""
    from data.folders import find_split
    from engine.schedule import plan

    longest = max(len(files) for files in find_split(options.data, "train").values())
    return plan(options.duration, options.decay_after, options.batch_size, longest)


def settle(run: Path, options: TrainOptions) -> TrainOptions:
    """Write the options into the run folder and return them; UserError where it holds a run of others.

    Before its first checkpoint a run has nothing to lose: it may be started again with other options.
    A budget is turned into a schedule once, when the run begins.
    """
    from engine.images import SKIPPED
    from engine.state import Checkpoints, write_text

    saved = run / "options.yaml"
    if options.budget:
        from options.planning import within_budget

        began = saved.is_file() and Checkpoints(run / "checkpoints").exist()
        if began and (before := saved_options(saved)).budget == options.budget:
            laid = {"duration": before.duration, "decay_after": before.decay_after}
            options = replace(options, **laid)
        else:
            options = within_budget(options, schedule_of(options))
            say(f"{options.budget} are enough for {options.duration}")
    if saved.exists() and Checkpoints(run / "checkpoints").exist():
        check_same(run, saved_options(saved), options)
    elif saved.is_file() and saved.read_bytes() != to_yaml(options).encode():
        for mark in ("wandb_id", *SKIPPED.values()):  # another experiment
            (run / mark).unlink(missing_ok=True)
    write_text(saved, to_yaml(options))
    return options


def start_or_continue(run: Path, options: TrainOptions) -> None:
    """Build the method and its data, restore the last checkpoint, and train to the end."""
    import torch

    from engine.images import fixed_images, samples_of, usable_files
    from engine.logger import WandbLogger
    from engine.loop import Loop
    from engine.provenance import provenance
    from engine.schedule import plan
    from engine.state import write_text
    from engine.trainer import Trainer
    from models import methods

    runtime = Runtime(options.runtime)
    torch.manual_seed(options.seed)
    with answered():  # before any image is read
        method = methods.find(options.method.name)(options.method, options.data.channels_of())
        method.check_size(options.data.crop_size, options.data.crop_size)
    files = usable_files(options.data, "train", run)
    samples = samples_of(files, options.data, options.seed, runtime.device)
    schedule = plan(options.duration, options.decay_after, options.batch_size, len(samples))
    kept_out = usable_files(options.data, "validation", run) if options.data.validation else files
    previewed = fixed_images(files, options.data, options.log.previews)
    scored = fixed_images(kept_out, options.data, options.score_images)
    with answered():
        trainer = Trainer(method, options, schedule, runtime)
    loop = Loop(trainer, samples, previewed, scored, run)
    if options.init_from and not loop.checkpoints.exist():
        begin_with(Path(options.init_from).expanduser(), trainer, options)
    if loop.finished:
        say(f"{run} is finished: {trainer.step} steps; evaluate it with: python test.py {run}")
        return

    identity = run / "wandb_id"
    if not identity.exists():
        write_text(identity, secrets.token_hex(4))
    origin = provenance()
    facts = {
        **to_dict(options), **origin, **runtime.describe(),
        "parameters": {
            name: sum(p.numel() for p in net.parameters()) for name, net in trainer.players.items()
        },
        "images": {domain: len(paths) for domain, paths in files.items()},
        "steps": schedule.steps,
    }  # fmt: skip
    wandb = WandbLogger(options.log, run, identity.read_text().strip(), facts)
    counts = ", ".join(f"{len(paths)} {domain}" for domain, paths in files.items())
    state = f"continues at step {trainer.step}" if trainer.step else "starts"
    say(
        f"{run} {state}: {options.method.name}, {counts} images, {schedule.steps} steps, on {runtime.device}"
    )
    say(wandb.message)
    code = 1
    try:
        loop.fit(options.log, options.data.workers, wandb)
        code = 0
    finally:
        wandb.finish(code)
    say(f"finished: {schedule.steps} steps; evaluate with: python test.py {run}")


@contextmanager
def answered() -> Iterator[None]:
    """Turn what the options or the memory forbid while networks are built into one line."""
    from engine.loop import is_out_of_memory

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


def begin_with(path: Path, trainer: "Trainer", options: TrainOptions) -> None:
    """Load weights to start from, say which, and let players that have them wait for those that have not."""
    from inference.fine_tune import fresh_and_trained, start_from, table

    rows = start_from(trainer.method, path, options.init_partial)
    trainer.restart_average()
    fresh, trained = fresh_and_trained(trainer.method, rows)
    say(f"weights of {path}\n{table(rows)}")
    wait = min(options.init_warm_up, trainer.schedule.steps // 2)
    if fresh and trained and wait:
        trainer.waiting = dict.fromkeys(trained, wait)
        say(f"the {' and '.join(trained)} wait {wait} steps for the {' and '.join(fresh)}")


if __name__ == "__main__":
    run_command(main)
