"""Resolve a run once on the main process: its options, files, schedule, and whether it resumes."""

from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import UserError
from common.run_main import print_line
from common.user_paths import parse_path
from data.bad_images import refuse_unreadable
from data.folders import find_split, with_absolute_paths
from data.groups import TABLE
from data.samples import check_sizes
from data.scenes import provide
from data.values.measure_ranges import keep_ranges, measure_ranges
from engine.checkpoint import Checkpoints
from engine.provenance_files import (
    epoch_images_at_start,
    images_that_differ,
    keep_held_out,
)
from engine.schedule import Schedule, make_schedule
from engine.tracking.wandb_config import LogConfig
from options.config import TrainOptions
from options.load import saved_options, to_yaml
from options.resume_check import (
    DEVICE_OPTIONS,
    DURATION_OPTIONS,
    FOLDER_OPTIONS,
    check_same,
    differing,
)
from training.cost_estimate import apply_budget
from training.image_selection import SKIPPED, usable_files


@dataclass(frozen=True)
class ResolvedRun:
    """A run as the main process resolved it; every rank builds its objects from this."""

    folder: Path
    options: TrainOptions  # with absolute data folders, and the duration that a budget allows
    files: dict[str, list[Path]]  # domain -> training images that can be read
    validation_files: dict[str, list[Path]]  # domain -> images that score the translators
    schedule: Schedule
    resumes: bool  # whether it continues from a checkpoint


def check_inputs(options: TrainOptions, is_distributed: bool) -> TrainOptions:
    """Return the options with absolute data folders; UserError if a file that they name is missing.

    Nothing is written, except generated scenes if data.root names some that do not exist yet.
    """
    for option in ("plan", "budget"):
        if getattr(options, option) and is_distributed:
            raise UserError(
                f"{option} measures steps in one process only; start the command without torchrun",
                option=option,
            )
    options = replace(options, data=with_absolute_paths(options.data))
    provide(options.data.root)
    files = find_split(options.data, "train")
    refuse_unreadable(files)
    if options.data.bad_images == "error":  # with skip, each image is checked when the run starts
        check_sizes(files, options.data)
    weights, folder = parse_path(options.init_from, "init_from"), parse_path(options.run, "run")
    if options.init_from and not weights.exists() and not _checkpoints(folder).exist():
        raise UserError(
            f"init_from={options.init_from}: no such file or folder",
            option="init_from",
            path=weights,
        )
    return options


def resolve_run(options: TrainOptions, folder: Path) -> ResolvedRun:
    """Return the run that `options` (from `check_inputs`) describe in `folder`.

    This process must hold the lock of the folder.

    UserError if the folder holds a run with other options. A run without a checkpoint has nothing
    to lose: it starts again with the given options.
    """
    resumes = _checkpoints(folder).exist()
    options = _resolve_options(options, folder, resumes)
    if not resumes:
        data, notes = measure_ranges(find_split(options.data, "train"), options.data)
        options = replace(options, data=data)
        for note in notes:
            print_line(f"note: {note}")
    files = usable_files(options.data, "train", folder)
    held_out = (
        usable_files(options.data, "validation", folder) if options.data.validation else files
    )
    if resumes and options.data.validation:
        files, held_out = keep_held_out(folder, options.data, files, held_out)
    epoch_images = epoch_images_at_start(folder) or max(map(len, files.values()))
    schedule = _schedule(options, epoch_images)
    return ResolvedRun(folder, options, files, held_out, schedule, resumes)


def planned_schedule(options: TrainOptions) -> Schedule:
    """Return the schedule for the training images that are in the folders now."""
    longest = max(len(files) for files in find_split(options.data, "train").values())
    return _schedule(options, longest)


def _schedule(options: TrainOptions, epoch_images: int) -> Schedule:
    return make_schedule(
        options.duration, options.decay_after, options.batch_size, epoch_images, options.warm_up
    )


def _resolve_options(options: TrainOptions, folder: Path, resumes: bool) -> TrainOptions:
    """Return the options with the duration that a budget allows, checked against the folder's."""
    path = folder / "options.yaml"
    saved = saved_options(path) if path.exists() and resumes else None
    if options.budget:
        if saved is not None and saved.budget == options.budget:  # measured when the run began
            options = replace(options, duration=saved.duration, decay_after=saved.decay_after)
        else:
            options = apply_budget(options, planned_schedule(options))
            print_line(f"budget={options.budget}: duration set to {options.duration}")
    if saved is not None:
        if options.log.project == LogConfig().project:  # the default may have changed
            options = replace(options, log=replace(options.log, project=saved.log.project))
        options = replace(options, data=keep_ranges(options.data, saved.data))
        _check_folders_and_device(folder, saved, options)
        check_same(folder, saved, options, accepted_differences(folder, saved, options))
        return options
    if planned_schedule(options).warm_up_exceeds_run:
        raise UserError(
            f"warm_up={options.warm_up} is longer than the run (duration={options.duration})",
            option="warm_up",
        )
    if path.is_file() and path.read_bytes() != to_yaml(options).encode():
        for name in ("wandb_id", *SKIPPED.values()):  # they belong to another experiment
            (folder / name).unlink(missing_ok=True)
    return options


def accepted_differences(
    folder: Path, saved: TrainOptions, options: TrainOptions
) -> tuple[str, ...]:
    """Return the options that may differ from those that a run began with.

    UserError if another duration would have changed the steps that are done.
    """
    changed = differing(saved, options)
    tables = [TABLE.fullmatch(each.data.group) for each in (saved, options)]
    if all(tables) and len({table["column"] for table in tables if table}) == 1:
        folder_options = (*FOLDER_OPTIONS, "data.group ")
    else:
        folder_options = FOLDER_OPTIONS
    if not any(text.startswith(DURATION_OPTIONS) for text in changed):
        return (*folder_options, *DEVICE_OPTIONS)
    step = _checkpoints(folder).latest_step()
    epoch_images = epoch_images_at_start(folder)
    before, after = _schedule(saved, epoch_images), _schedule(options, epoch_images)
    is_same = after.steps >= step and all(before.factor(n) == after.factor(n) for n in range(step))
    if not is_same or options.data.progressive_crops:
        raise UserError(
            f"{folder}: with {changed[0]} the {step} steps that are done would have had other "
            "learning rates or crops, which fall over the whole run; use the duration that it began "
            f"with, or start a new run from its weights: run=FOLDER init_from={folder}",
            option="duration", path=folder,
        )  # fmt: skip
    return (*folder_options, *DEVICE_OPTIONS, *DURATION_OPTIONS)


def _check_folders_and_device(folder: Path, saved: TrainOptions, options: TrainOptions) -> None:
    """Print what differs in where and how a run continues.

    UserError if its images are in other folders and not the same by data.json.
    """
    changed = differing(saved, options)
    if places := [text for text in changed if text.startswith(FOLDER_OPTIONS)]:
        different = images_that_differ(folder, options.data, options.log.fingerprint)
        if different:
            raise UserError(
                f"{folder} holds a run with other images ({places[0]}; {different[0]}); choose "
                "another run=, or put the images back",
                option=places[0].partition(" ")[0], path=folder,
            )  # fmt: skip
        print_line(f"note: the images are in another folder ({places[0]}); their contents agree")
    if ways := [text for text in changed if text.startswith(DEVICE_OPTIONS)]:
        print_line(f"note: {', '.join(ways)}: the run is no longer bit for bit the one it began as")


def _checkpoints(folder: Path) -> Checkpoints:
    return Checkpoints(folder / "checkpoints")
