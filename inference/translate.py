"""Translate a picture file, a folder, a pattern, the frames of a video, or standard input."""

import io
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from common.errors import RunError, UserError, one_line
from common.progress import fraction_bar, print_beside_bar, with_progress
from common.run_main import print_line
from common.user_paths import parse_path
from data.folders import SUFFIXES
from data.reading import open_image, pixels_of
from data.values.pixel_limit import set_max_megapixels
from data.values.value_range import DomainFormat
from engine.hardware.memory import is_out_of_memory
from inference.inputs import (
    Inputs,
    Masks,
    OpenedPicture,
    Picture,
    batch_by_size,
    decode_ahead,
    find_inputs,
    frame_order,
    refuse_overwriting,
    too_large_error,
)
from inference.open_run import Run, direction_of, open_run
from inference.outputs import like_input, output_name, write_picture
from inference.picture_translator import PictureTranslator
from inference.strength_and_mask import Blending
from inference.style_selection import select_style
from inference.temporal_smoothing import Flicker, smooth_statistics
from options.config import TranslateOptions

# Pixels of a batch of neighbouring pictures of one size, by device.
BATCH_PIXELS = {"cpu": 2**16, "mps": 2**18, "cuda": 2**20}


def translate(run: str, source: str, target: str, options: TranslateOptions) -> None:
    """Translate the pictures `source` into `target` with the run that `run` names; print how many.

    `source` and `target` are paths, or - for standard input and output. UserError: an option or a
    path is wrong. RunError: some pictures could not be translated.
    """
    if "" in (run, source, target):
        raise UserError("RUN, INPUT or OUTPUT is empty; write . for the current folder")
    opened = open_run(parse_path(run), options.runtime, options.checkpoint, options.use_ema)
    set_max_megapixels(options.max_megapixels)
    for note in opened.options.method.notes():
        print(f"note: {note}", file=sys.stderr)  # a picture may go to standard output
    direction = direction_of(opened, options.direction)
    if target == "-" and source != "-":
        raise UserError(
            f"OUTPUT - goes with INPUT -: python translate.py {shlex.quote(run)} - - "
            f"< {shlex.quote(source)}"
        )
    if source == "-":
        translate_stream(opened, direction, target, options)
        return
    count, out = translate_paths(opened, direction, source, parse_path(target), options)
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    print_line(f"translated {pictures} ({direction}) into {out}")


def translate_paths(
    run: Run, direction: str, source: str, target: Path, options: TranslateOptions
) -> tuple[int, Path]:
    """Translate `source` (a file, a folder or a pattern) into `target`.

    Return how many pictures there were, and the file or folder that holds the translations.

    The outputs of a folder have its subfolders and names. The output of a file is `target` itself
    if that has an image suffix, else a file of the same name in the folder `target`. A picture that
    cannot be read is reported and skipped; then RunError counts those at the end.
    """
    inputs = find_inputs(source, target)
    into_file = _is_file_name(inputs, target)
    translator = run.translators[direction]
    channels = translator.in_channels
    formats = run.options.data.formats()
    forms = formats[translator.source], formats[translator.target]
    refuse_overwriting(inputs, target, forms[1])
    masks = Masks(options.mask, inputs.base)
    style = select_style(run, direction, options.style)
    if options.video:
        inputs = _frames(inputs, forms)
    flicker = Flicker()
    failed: list[Path] = []
    written: set[Path] = set()

    def write(file: Path, picture: Picture | UserError, result: Picture | UserError) -> None:
        name = Path(file.name) if inputs.single else file.relative_to(inputs.base)
        named = output_name(target if into_file else name, forms[1])
        out = named if into_file else target / named
        try:
            if isinstance(result, UserError):
                raise result
            if out in written:
                raise UserError(
                    f"{file}: {out} was made from another picture; rename one of them", path=file
                )
            written.add(out)
            if into_file and out != target:
                print_line(
                    f"note: {target.suffix} cannot hold the translation; it is saved as {out}"
                )
            if isinstance(result, np.ndarray):
                result = like_input(result, file, channels)
            write_picture(out, result)
            if options.video and isinstance(picture, Image.Image):
                assert isinstance(result, Image.Image)
                fake = pixels_of(result, translator.out_channels)
                flicker.update(pixels_of(picture, channels), fake)
        except UserError as error:
            if inputs.single:
                raise
            failed.append(file)
            print_beside_bar(f"skipped: {one_line(error)}")

    max_pixels = 0 if options.video or masks.differ else BATCH_PIXELS[run.runtime.device.type]
    with smooth_statistics(translator) if options.video else nullcontext():
        pictures = decode_ahead(inputs.files, forms[0])
        pictures = with_progress(pictures, len(inputs.files), direction)
        for batch in batch_by_size(pictures, max_pixels):
            results = translate_batch(batch, run, direction, options, masks, style)
            for (file, picture), result in zip(batch, results, strict=True):
                write(file, picture, result)
    if changes := flicker.result():
        print(
            f"flicker: {changes['output']:.2f} levels a frame, the input {changes['input']:.2f} "
            f"(ratio {changes['ratio']:.2f})"
        )
    if failed:
        raise RunError(
            f"{len(failed)} of {len(inputs.files)} pictures could not be translated, see above"
        )
    return len(inputs.files), written.pop() if into_file else target


def _is_file_name(inputs: Inputs, target: Path) -> bool:
    """Return whether `target` names the output of a single input; UserError if it cannot be one."""
    if inputs.single and target.suffix.lower() in SUFFIXES and not target.is_dir():
        return True
    if target.is_file() or (inputs.single and target.suffix and not target.is_dir()):
        problem = "is a file" if target.is_file() else "has no suffix of a picture"
        raise UserError(
            f"{target} {problem}; name a folder, or a file such as out.png", path=target
        )
    return False


def _frames(inputs: Inputs, forms: Sequence[DomainFormat]) -> Inputs:
    """Return the frames of a video in their order; UserError if the inputs cannot be frames."""
    if any(form.has_range for form in forms):
        raise UserError("video=true needs pictures of 8 bits on both sides", option="video")
    if inputs.single:
        raise UserError("video=true needs a folder or a pattern of frames", option="video")
    return replace(inputs, files=sorted(inputs.files, key=frame_order))


def translate_batch(
    batch: Sequence[OpenedPicture], run: Run, direction: str, options: TranslateOptions,
    masks: Masks, style: Tensor | None,
) -> Iterator[Picture | UserError]:  # fmt: skip
    """Yield the translation of each picture of a batch, or the error that prevents it.

    If a batch fails, for lack of memory most often, its pictures are translated one by one.
    """
    file, picture = batch[0]
    try:
        if isinstance(picture, UserError):
            raise picture
        blending = Blending(options.strength, options.keep_color, masks.of(file))
        with fraction_bar(direction) as report:
            tile = "off" if options.video else options.tile
            translator = PictureTranslator(
                run.translators[direction],
                run.runtime,
                tile,
                blending,
                report,
                style,
                run.options.data.formats(),
            )
            if isinstance(picture, np.ndarray):
                yield translate_picture(translator, file, picture)
            else:
                images = [image for _, image in batch if isinstance(image, Image.Image)]
                with memory_errors_naming(file):
                    translations = translator.images(images)
                yield from translations
    except UserError as error:
        if len(batch) == 1:
            yield error
        else:
            for one in batch:
                yield from translate_batch([one], run, direction, options, masks, style)


def translate_stream(run: Run, direction: str, target: str, options: TranslateOptions) -> None:
    """Translate the picture on standard input into `target`, or as PNG to standard output."""
    path = parse_path(target)
    if target != "-" and (path.is_dir() or path.suffix.lower() not in SUFFIXES):
        raise UserError(
            f"{target}: name a picture, such as out.png, or - for standard output", path=target
        )
    formats = run.options.data.formats()
    if any(formats[domain].has_range for domain in direction.split("_to_")):
        raise UserError(
            f"INPUT - takes pictures of 8 bits, but {direction} has ranges (data.range); name files"
        )
    content = sys.stdin.buffer.read()
    picture = open_image(io.BytesIO(content), "standard input")
    mask = Masks(options.mask, Path()).of(Path("standard input"))
    blending = Blending(options.strength, options.keep_color, mask)
    style = select_style(run, direction, options.style)
    translator = PictureTranslator(
        run.translators[direction], run.runtime, options.tile, blending, style=style
    )
    result = translate_picture(translator, Path("standard input"), picture)
    if target == "-":
        assert isinstance(result, Image.Image)
        result.save(sys.stdout.buffer, "PNG")
        sys.stdout.buffer.flush()
    else:
        write_picture(path, result)


def translate_picture(translator: PictureTranslator, file: Path, picture: Picture) -> Picture:
    """Return the translation of a picture; UserError names the file if memory is too small."""
    with memory_errors_naming(file):
        return translator(picture)


@contextmanager
def memory_errors_naming(file: Path) -> Iterator[None]:
    """Turn an error of lacking memory into a UserError that names the file."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise too_large_error(file) from None
        raise
