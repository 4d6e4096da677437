"""Translate pictures of any size: a file, a folder, a pattern, a video's frames, or standard input."""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from common.command import print_line
from common.errors import RunError, UserError, one_line
from common.progress import fraction_bar, with_progress
from common.user_paths import parse_path
from data.folders import SUFFIXES
from data.reading import open_image, pixels_of
from engine.hardware.memory import is_out_of_memory
from inference.blending import Blending
from inference.inputs import (
    Masks,
    Opened,
    Picture,
    batch_by_size,
    decode_ahead,
    find_inputs,
    frame_order,
    refuse_overwriting,
    too_large,
)
from inference.open_run import Run, direction_of, open_run
from inference.outputs import output_name, write_picture
from inference.picture_translator import PictureTranslator
from inference.style_selection import select_style
from inference.temporal_smoothing import Flicker, smooth_statistics
from options.config import TranslateOptions

# How many are translated at once, if neighbours are of one size.
BATCH_PIXELS = {"cpu": 2**16, "mps": 2**18, "cuda": 2**20}
Result = TypeVar("Result")


def translate(run: str, source: str, target: str, options: TranslateOptions) -> None:
    """Translate the pictures `source` into `target` with the run that `run` names; print how many.

    `source` and `target` are paths, or - for standard input and output.
    """
    if "" in (run, source, target):
        raise UserError(
            "RUN, INPUT and OUTPUT are paths, and one of them is empty; . is this folder"
        )
    opened = open_run(parse_path(run), options.runtime, options.checkpoint, options.use_ema)
    for note in opened.options.method.notes():
        print(f"note: {note}", file=sys.stderr)  # a picture may go to standard output
    direction = direction_of(opened, options.direction)
    if target == "-" and source != "-":
        raise UserError(f"OUTPUT - goes with INPUT -: python translate.py {run} - - < {source}")
    if source == "-":
        translate_stream(opened, direction, target, options)
        return
    count = translate_paths(opened, direction, source, parse_path(target), options)
    print_line(f"{count} translated {direction} into {target}")


def translate_paths(
    run: Run, direction: str, source: str, target: Path, options: TranslateOptions
) -> int:
    """Translate `source` (a file, a folder or a pattern) into `target`; return how many were made.

    A folder's tree and names are kept. A file goes to `target` itself where that has an image's
    suffix, else into it under its own name. A picture that cannot be read is named and passed over;
    at the end RunError says how many there were.
    """
    work = find_inputs(source, target)
    into_file = work.single and target.suffix.lower() in SUFFIXES and not target.is_dir()
    if not into_file and (
        target.is_file() or (work.single and target.suffix and not target.is_dir())
    ):
        kind = "a file" if target.is_file() else "no picture's name"
        raise UserError(f"{target} is {kind}; name a folder, or a file such as out.png")
    refuse_overwriting(work, target)
    masks = Masks(options.mask, work.base)
    style = select_style(run, direction, options.style)
    translator = run.translators[direction]
    channels = translator.in_channels
    if options.video:
        if work.single:
            raise UserError("video=true needs a folder or a pattern of frames")
        work = replace(work, files=sorted(work.files, key=frame_order))
    flicker = Flicker()
    failed: list[Path] = []
    made: set[Path] = set()

    def keep(file: Path, picture: Picture | UserError, result: Picture | UserError) -> None:
        name = Path(file.name) if work.single else file.relative_to(work.base)
        out = output_name(target) if into_file else target / output_name(name)
        try:
            if isinstance(result, UserError):
                raise result
            if out in made:
                raise UserError(f"{file}: {out} was made from another picture; rename one of them")
            made.add(out)
            write_picture(out, result)
            if options.video and isinstance(picture, Image.Image):
                assert isinstance(result, Image.Image)
                fake = pixels_of(result, translator.out_channels)
                flicker.update(pixels_of(picture, channels), fake)
        except UserError as error:
            if work.single:
                raise
            failed.append(file)
            print(f"skipped: {one_line(error)}", file=sys.stderr)

    at_once = 0 if options.video or masks.differ else BATCH_PIXELS[run.runtime.device.type]
    with smooth_statistics(translator) if options.video else nullcontext():
        pictures = with_progress(decode_ahead(work.files, channels), len(work.files), direction)
        for group in batch_by_size(pictures, at_once):
            for (file, picture), result in zip(
                group, translate_group(group, run, direction, options, masks, style), strict=True
            ):
                keep(file, picture, result)
    if figures := flicker.result():
        print(
            "flicker: {output:.2f} levels a frame, the input {input:.2f} (ratio {ratio:.2f})".format(
                **figures
            )
        )
    if failed:
        raise RunError(
            f"{len(failed)} of {len(work.files)} pictures could not be translated, see above"
        )
    return len(work.files)


def translate_group(
    group: Sequence[Opened], run: Run, direction: str, options: TranslateOptions, masks: Masks,
    style: Tensor | None,
) -> Iterator[Picture | UserError]:  # fmt: skip
    """Yield the translation of each picture of a group, or what stands against it."""
    file, picture = group[0]
    try:
        if isinstance(picture, UserError):
            raise picture
        controls = Blending(options.strength, options.keep_color, masks.of(file))
        with fraction_bar(direction) as report:
            tile = "off" if options.video else options.tile
            translate = PictureTranslator(
                run.translators[direction], run.runtime, tile, controls, report, style
            )
            if isinstance(picture, np.ndarray):
                yield translated(translate, file, picture)
            else:
                images = [image for _, image in group if isinstance(image, Image.Image)]
                yield from with_memory_for(file, lambda: translate.images(images))
    except UserError as error:
        if len(group) == 1:
            yield error
        else:
            for one in group:
                yield from translate_group([one], run, direction, options, masks, style)


def translate_stream(run: Run, direction: str, target: str, options: TranslateOptions) -> None:
    """Translate the picture on standard input into the file `target`, or to standard output as PNG."""
    path = parse_path(target)
    if target != "-" and (path.is_dir() or path.suffix.lower() not in SUFFIXES):
        raise UserError(f"{target}: name a picture, such as out.png, or - for standard output")
    content = sys.stdin.buffer.read()
    picture = open_image(io.BytesIO(content), "standard input")
    mask = Masks(options.mask, Path()).of(Path("standard input"))
    controls = Blending(options.strength, options.keep_color, mask)
    style = select_style(run, direction, options.style)
    translate = PictureTranslator(
        run.translators[direction], run.runtime, options.tile, controls, style=style
    )
    result = translated(translate, Path("standard input"), picture)
    if target == "-":
        assert isinstance(result, Image.Image)
        result.save(sys.stdout.buffer, "PNG")
        sys.stdout.buffer.flush()
    else:
        write_picture(path, result)


def translated(translate: PictureTranslator, file: Path, picture: Picture) -> Picture:
    """Return a picture's translation; UserError where the memory is too small for it."""
    return with_memory_for(file, lambda: translate(picture))


def with_memory_for(file: Path, work: Callable[[], Result]) -> Result:
    """Return what `work` does; UserError names the file where the memory is too small."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise too_large(file) from None
        raise
