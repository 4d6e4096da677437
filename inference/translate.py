"""Translate a file or a folder of pictures of any size."""

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
    if target.resolve() == source.resolve() or (
        single and target.resolve() == source.parent.resolve()
    ):
        raise UserError(
            f"{target}: pictures would be overwritten by their translations; name another place"
        )
    into_file = single and target.suffix.lower() in SUFFIXES and not target.is_dir()
    if not into_file and (target.is_file() or (single and target.suffix and not target.is_dir())):
        kind = "a file" if target.is_file() else "no picture's name"
        raise UserError(f"{target} is {kind}; name a folder, or a file such as out.png")
    inside = target.resolve()
    files = (
        [source] if single else [f for f in files_in(source) if inside not in f.resolve().parents]
    )
    translate = PictureTranslator(run.translators[direction], run.runtime)
    failed, made = [], set()
    for file in counted(files, len(files), direction):
        name = Path(file.name) if single else file.relative_to(source)
        out = written_name(target) if into_file else target / written_name(name)
        try:
            if out in made:
                raise UserError(f"{file}: {out} was made from another picture; rename one of them")
            made.add(out)
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
    try:
        if file.suffix.lower() == ".npy":
            return translate(read_image(file, translate.translator.in_channels))
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
