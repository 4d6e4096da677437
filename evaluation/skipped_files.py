"""Read held-out and training images; report and pass over the files that cannot be used."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from common.errors import UserError, one_line
from common.progress import print_beside_bar, with_progress
from data.augment import evaluation_transform
from data.config import DataConfig
from data.reading import BadImage
from data.samples import load_image
from data.tensors import denormalize
from data.values.value_range import DomainFormat


class SkippedFiles:
    """The files that could not be read or written, each reported once."""

    def __init__(self) -> None:
        self.reasons: dict[Path, str] = {}

    def read(self, file: Path, data: DataConfig, form: DomainFormat) -> Tensor | None:
        """Return a file as an image [1, C, H, W], or None, reported, if it cannot be read."""
        try:
            return load_image(file, evaluation_transform(data), data, form)
        except BadImage as error:
            self.add(file, error)
        except OSError as error:
            self.add(file, UserError(f"{file}: {error.strerror or error}", path=file))
        return None

    def add(self, file: Path, error: UserError) -> None:
        """Report that a file is passed over."""
        if file not in self.reasons:
            self.reasons[file] = str(error)
            print_beside_bar(f"skipped: {one_line(error)}")


def read_images(
    files: Sequence[Path], data: DataConfig, domain: str, skipped: SkippedFiles,
    description: str = "",
) -> tuple[list[Path], list[Tensor]]:  # fmt: skip
    """Return the files of a domain that can be read, and their images as uint8.

    With a description, the progress is shown under it.
    """
    form = data.formats()[domain]
    images = (skipped.read(file, data, form) for file in files)
    if description:
        images = with_progress(images, len(files), description)
    read = [(file, image) for file, image in zip(files, images, strict=True) if image is not None]
    return [file for file, _ in read], [denormalize(image) for _, image in read]
