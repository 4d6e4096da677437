"""Translate pictures of any size: a file, a folder, a pattern, a video's frames, or standard input."""

import glob
import io
import itertools
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from data.folders import SUFFIXES, files_in
from data.reading import open_upright, pixels_of, read_image
from engine.progress import counted, share_done
from errors import RunError, UserError, one_line
from inference.controls import Controls
from inference.pictures import write_picture, written_name
from inference.run import PictureTranslator, Run
from inference.video import Flicker, smoothed
from options.config import TranslateOptions

AHEAD = 4  # pictures that are decoded while one is translated
BATCH_PIXELS = {
    "cpu": 2**16,
    "mps": 2**18,
    "cuda": 2**20,
}  # that are translated at once, if of one size
Picture = Image.Image | np.ndarray
Result = TypeVar("Result")
Opened = tuple[Path, Picture | UserError]


@dataclass(frozen=True)
class Work:
    """The pictures to translate, and the folder that their names are relative to."""

    files: list[Path]
    base: Path
    single: bool  # one file, given by its name


def translate_paths(
    run: Run, direction: str, source: str, target: Path, options: TranslateOptions
) -> int:
    """Translate `source` (a file, a folder or a pattern) into `target`; return how many were made.

    A folder's tree and names are kept. A file goes to `target` itself where that has an image's
    suffix, else into it under its own name. A picture that cannot be read is named and passed over;
    at the end RunError says how many there were.
    """
    work = find_work(source, target)
    into_file = work.single and target.suffix.lower() in SUFFIXES and not target.is_dir()
    if not into_file and (
        target.is_file() or (work.single and target.suffix and not target.is_dir())
    ):
        kind = "a file" if target.is_file() else "no picture's name"
        raise UserError(f"{target} is {kind}; name a folder, or a file such as out.png")
    refuse_overwriting(work, target)
    masks = Masks(options.mask, work.base)
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
        out = written_name(target) if into_file else target / written_name(name)
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
    with smoothed(translator) if options.video else nullcontext():
        pictures = counted(decoded(work.files, channels), len(work.files), direction)
        for group in of_one_size(pictures, at_once):
            for (file, picture), result in zip(
                group, results_of(group, run, direction, options, masks), strict=True
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


def of_one_size(pictures: Iterable[Opened], most: int) -> Iterator[list[Opened]]:
    """Yield pictures in their order, neighbours of one size together, `most` pixels at once or one."""
    group: list[Opened] = []
    for file, picture in pictures:
        size = picture.size if isinstance(picture, Image.Image) else None
        if group:
            last = group[-1][1]
            alike = isinstance(last, Image.Image) and last.size == size
            if not alike or size is None or (len(group) + 1) * size[0] * size[1] > most:
                yield group
                group = []
        group.append((file, picture))
    if group:
        yield group


def results_of(
    group: Sequence[Opened], run: Run, direction: str, options: TranslateOptions, masks: "Masks"
) -> Iterator[Picture | UserError]:
    """Yield the translation of each picture of a group, or what stands against it."""
    file, picture = group[0]
    try:
        if isinstance(picture, UserError):
            raise picture
        controls = Controls(options.strength, options.keep_colour, masks.of(file))
        with share_done(direction) as report:
            tile = "off" if options.video else options.tile
            translate = PictureTranslator(
                run.translators[direction], run.runtime, tile, controls, report
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
                yield from results_of([one], run, direction, options, masks)


def translate_stream(run: Run, direction: str, target: str, options: TranslateOptions) -> None:
    """Translate the picture on standard input into the file `target`, or to standard output as PNG."""
    path = Path(target).expanduser()
    if target != "-" and (path.is_dir() or path.suffix.lower() not in SUFFIXES):
        raise UserError(f"{target}: name a picture, such as out.png, or - for standard output")
    content = sys.stdin.buffer.read()
    picture = open_upright(io.BytesIO(content), "standard input")
    mask = Masks(options.mask, Path()).of(Path("standard input"))
    controls = Controls(options.strength, options.keep_colour, mask)
    translate = PictureTranslator(run.translators[direction], run.runtime, options.tile, controls)
    result = translated(translate, Path("standard input"), picture)
    if target == "-":
        assert isinstance(result, Image.Image)
        result.save(sys.stdout.buffer, "PNG")
        sys.stdout.buffer.flush()
    else:
        write_picture(path, result)


def find_work(source: str, target: Path) -> Work:
    """Return the pictures that `source` names; UserError where there is none or one would be lost."""
    path = Path(source).expanduser()
    inside = target.resolve()
    if path.is_dir():
        if inside == path.resolve():
            raise _overwriting(target)
        files = [f for f in files_in(path) if inside not in f.resolve().parents]
        return Work(files, path, single=False)  # what an earlier call wrote there is no input
    if path.exists():
        if inside in (path.resolve(), path.parent.resolve()):
            raise _overwriting(target)
        return Work([path], path.parent, single=True)
    if not glob.has_magic(source):
        raise UserError(f"no such file or folder: {source}")
    found = sorted(Path(f) for f in glob.glob(str(path), recursive=True))
    files = [f for f in found if f.is_file() and f.suffix.lower() in SUFFIXES]
    if not files:
        raise UserError(f"{source}: no picture has such a name")
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    base = Path(*fixed)
    if inside in {f.parent.resolve() for f in files} and inside == base.resolve():
        raise _overwriting(target)
    return Work(files, base, single=False)


def frame_order(file: Path) -> list[tuple[int, int | str]]:
    """Return what puts frame 2 before frame 10."""
    parts = re.split(r"(\d+)", str(file))
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def refuse_overwriting(work: Work, target: Path) -> None:
    """Raise UserError where a translation would take the place of a picture that is translated."""
    if work.single:
        return
    inputs = {file.resolve() for file in work.files}
    for file in work.files:
        out = target / written_name(file.relative_to(work.base))
        if out.resolve() in inputs:
            raise UserError(f"{out} is one of the pictures to translate; name another folder")


def _overwriting(target: Path) -> UserError:
    return UserError(
        f"{target}: pictures would be overwritten by their translations; name another place"
    )


class Masks:
    """The mask of each picture: none, the same for all, or the one of its name in a folder."""

    def __init__(self, mask: str, base: Path) -> None:
        self.path = Path(mask).expanduser() if mask else None
        self.base = base
        if self.path is not None and not self.path.exists():
            raise UserError(f"mask={mask}: no such file or folder")
        self.shared = self._read(self.path) if self.path and self.path.is_file() else None

    @property
    def differ(self) -> bool:
        """Say whether each picture has its own."""
        return self.path is not None and self.shared is None

    def of(self, file: Path) -> Image.Image | None:
        """Return a picture's mask; UserError where a folder of masks has none of its name."""
        if self.path is None or self.shared is not None:
            return self.shared
        mask = self.path / file.relative_to(self.base)
        if not mask.is_file():
            raise UserError(f"{file}: no mask {mask}")
        return self._read(mask)

    def _read(self, path: Path) -> Image.Image:
        return Image.fromarray(read_image(path, 1)[..., 0])


def decoded(files: Sequence[Path], channels: int) -> Iterator[Opened]:
    """Yield each file with its picture, or with the error that says why there is none.

    The next ones are decoded meanwhile: Pillow's decoders let other threads run.
    """

    def decode(file: Path) -> Picture | UserError:
        try:
            if file.suffix.lower() == ".npy":
                return read_image(file, channels)
            if channels > 4:
                return UserError(f"{file}: this run translates arrays of {channels} channels")
            return open_upright(file)
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"{file}: {error.strerror or error}")
        except MemoryError:
            return too_large(file)

    waiting: deque[tuple[Path, Future[Picture | UserError]]] = deque()
    rest: Iterable[Path] = iter(files)
    with ThreadPoolExecutor(2) as pool:
        for file in itertools.chain(rest, [None] * AHEAD):
            if file is not None:
                waiting.append((file, pool.submit(decode, file)))
            if waiting and (file is None or len(waiting) > AHEAD):
                path, future = waiting.popleft()
                yield path, future.result()


def translated(translate: PictureTranslator, file: Path, picture: Picture) -> Picture:
    """Return a picture's translation; UserError where the memory is too small for it."""
    return with_memory_for(file, lambda: translate(picture))


def with_memory_for(file: Path, work: Callable[[], Result]) -> Result:
    """Return what `work` does; UserError names the file where the memory is too small."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if "memory" in str(error).lower() or isinstance(error, MemoryError):
            raise too_large(file) from None
        raise


def too_large(file: Path) -> UserError:
    """Return the line for a picture that does not fit the memory."""
    return UserError(
        f"{file}: too large for the memory that is free; try tile=256, or make it smaller"
    )
