"""Train a translator: python train.py PRESET [option=value ...]; the same command again continues."""

import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.runtime import Runtime
from errors import UserError, run_command, say
from options.config import TrainOptions
from options.load import check_same, saved_options, to_dict, to_yaml, train_options

if TYPE_CHECKING:  # it opens image libraries, and a misspelt option should be answered before
    from data.loading import UnpairedSamples


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
    check_sizes(find_split(options.data, "train"), options.data)  # before any folder is made
    run = Path(options.run).expanduser()
    claim(run)
    with sole_owner(run):
        settle(run, options)
        start_or_continue(run, options)


def claim(run: Path) -> None:
    """Make the run folder; UserError where that is not possible."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run={str(run)[:80]}: cannot be made ({error.strerror})") from None


def settle(run: Path, options: TrainOptions) -> None:
    """Write the options into the run folder; UserError where it holds a run of others.

    Before its first checkpoint a run has nothing to lose: it may be started again with other options.
    """
    from engine.state import Checkpoints, write_text

    saved = run / "options.yaml"
    if saved.exists() and Checkpoints(run / "checkpoints").exist():
        check_same(run, saved_options(saved), options)
    elif saved.is_file() and saved.read_bytes() != to_yaml(options).encode():
        (run / "wandb_id").unlink(missing_ok=True)  # another experiment
    write_text(saved, to_yaml(options))


def samples_of(
    files: dict[str, list[Path]], options: TrainOptions, runtime: Runtime
) -> "UnpairedSamples":
    """Return the training samples, decoded now where the options say so."""
    from data.loading import UnpairedSamples
    from data.resident import ResidentSamples
    from engine.progress import counted

    def counted_files(paths: Iterable[Path]) -> Iterable[Path]:
        images = list(paths)
        return counted(images, len(images), "decoding")

    if options.data.resident:
        return ResidentSamples(files, options.data, options.seed, runtime.device, counted_files)
    return UnpairedSamples(files, options.data, options.seed, counted_files)


def start_or_continue(run: Path, options: TrainOptions) -> None:
    """Build the method and its data, restore the last checkpoint, and train to the end."""
    import torch

    from data.folders import find_split, spread
    from data.loading import held_out
    from engine.logger import WandbLogger
    from engine.provenance import provenance
    from engine.schedule import plan
    from engine.state import write_text
    from engine.trainer import Trainer
    from models import methods

    runtime = Runtime(options.runtime)
    torch.manual_seed(options.seed)
    channels = options.data.channels_of()
    try:
        method = methods.find(options.method.name)(options.method, channels)
        method.check_size(options.data.crop_size, options.data.crop_size)
    except ValueError as error:
        raise UserError(str(error)) from None

    files = find_split(options.data, "train")
    samples = samples_of(files, options, runtime)
    schedule = plan(options.duration, options.decay_after, options.batch_size, len(samples))
    kept_out = find_split(options.data, "validation") if options.data.validation else files
    previewed, scored = (
        {
            domain: list(
                held_out(spread(paths, count), options.data, channels[domain], cropped=True)
            )
            for domain, paths in shown.items()
        }
        for shown, count in ((files, options.log.previews), (kept_out, options.score_images))
    )
    trainer = Trainer(method, samples, previewed, scored, options, schedule, runtime, run)
    if trainer.checkpoints.exist():
        trainer.restore(trainer.checkpoints.load_latest())
        if trainer.step >= schedule.steps:
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
        log = options.log
        trainer.fit(log.every, log.previews_every, options.data.workers, wandb)
        code = 0
    finally:
        wandb.finish(code)
    say(f"finished: {schedule.steps} steps; evaluate with: python test.py {run}")


if __name__ == "__main__":
    run_command(main)
