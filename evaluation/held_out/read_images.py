"""Read held-out and training images ahead; report and pass over the files that cannot be used."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from common.errors import UserError, one_line
from common.progress import print_beside_bar, with_progress
from common.threads import map_in_threads
from data.augment import evaluation_transform
from data.config import DataConfig
from data.reading import BadImage
from data.samples import load_image
from data.values.value_range import DomainFormat
from evaluation.image_sets import DescribedImages

THREADS, AHEAD = 2, 4  # that read, and images that are read before they are needed


class SkippedFiles:
    """The files that could not be read, translated or written, each reported once."""

    def __init__(self) -> None:
        self.reasons: dict[Path, str] = {}

    def add(self, file: Path, error: UserError) -> None:
        """Report that a file is passed over."""
        if file not in self.reasons:
            self.reasons[file] = str(error)
            print_beside_bar(f"skipped: {one_line(error)}")


def read_image(file: Path, data: DataConfig, form: DomainFormat) -> Tensor | UserError:
    """Return a file as an image [1, C, H, W] in [-1, 1], or the error that says why it is none."""
    try:
        return load_image(file, evaluation_transform(data), data, form)
    except BadImage as error:
        return error
    except OSError as error:
        return UserError(f"{file}: {error.strerror or error}", path=file)


def read_ahead(
    files: Sequence[Path], data: DataConfig, form: DomainFormat, skipped: SkippedFiles,
    description: str,
) -> Iterator[tuple[Path, Tensor]]:  # fmt: skip
    """Yield each file that can be read, with its image [1, C, H, W] in [-1, 1].

    The next images are decoded meanwhile: decoders release the interpreter's lock.
    """
    images = map_in_threads(lambda file: read_image(file, data, form), files, THREADS, AHEAD)
    for file, image in with_progress(images, len(files), description):
        if isinstance(image, UserError):
            skipped.add(file, image)
        else:
            yield file, image


def describe_files(
    images: DescribedImages, files: Sequence[Path], data: DataConfig, domain: str, skipped: SkippedFiles,
    description: str,
) -> DescribedImages:  # fmt: skip
    """Add the files of a domain that can be read to `images`, and return it."""
    form = data.formats()[domain]
    for file, image in read_ahead(files, data, form, skipped, description):
        images.add(file, image)
    return images
