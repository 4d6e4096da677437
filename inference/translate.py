"""Translate a file or a folder of pictures of any size."""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from data.folders import files_in
from data.reading import SUFFIXES, open_upright, read_image
from engine.progress import counted
from errors import RunError, UserError, one_line
from inference.pictures import write_picture, written_name
from inference.run import PictureTranslator, Run


def translate_paths(run: Run, direction: str, source: Path, target: Path) -> int:
    """Translate `source` (a file or a folder) into `target`; return how many pictures were made.

    A folder's tree and names are kept. A file goes to `target` itself where that has an image's
    suffix, else into it under its own name. A picture that cannot be read is named and passed over;
    at the end RunError says how many there were.
    """
    if not source.exists():
        raise UserError(f"no such file or folder: {source}")
    single = not source.is_dir()
    files = [source] if single else files_in(source)
    into_file = single and target.suffix.lower() in SUFFIXES and not target.is_dir()
    if target.is_file() and not into_file:
        raise UserError(f"{target} is a file; name a folder for the translated pictures")
    translate = PictureTranslator(run.translators[direction], run.runtime)
    failed = []
    for file in counted(files, len(files), direction):
        name = Path(file.name) if single else file.relative_to(source)
        out = target if into_file else target / written_name(name)
        try:
            if os.path.exists(out) and os.path.samefile(out, file):
                raise UserError(
                    f"{out} would be overwritten by its own translation; name another folder"
                )
            write_picture(out, translated(translate, file))
        except UserError as error:
            if single:
                raise
            failed.append(file)
            print(f"skipped: {one_line(error)}", file=sys.stderr)
    if failed:
        raise RunError(f"{len(failed)} of {len(files)} pictures could not be translated, see above")
    return len(files)


def translated(translate: PictureTranslator, file: Path) -> Image.Image | np.ndarray:
    """Return the translation of one file: a picture, or an array for .npy; UserError if unreadable."""
    if file.suffix.lower() == ".npy":
        return translate(read_image(file, translate.translator.in_channels))
    try:
        picture = open_upright(file)
        if translate.translator.in_channels > 4:
            raise UserError(
                f"{file}: this run translates arrays of {translate.translator.in_channels} channels"
            )
        return translate(picture)
    except (RuntimeError, MemoryError) as error:
        if "memory" in str(error).lower() or isinstance(error, MemoryError):
            raise UserError(
                f"{file}: too large for the memory of this machine; make it smaller"
            ) from None
        raise
