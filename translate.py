"""Translate pictures: python translate.py RUN INPUT OUTPUT [direction=a_to_b]."""

import os

from common.command_line import split_words
from common.errors import UserError
from common.run_main import run_command
from inference.translate import translate
from options.config import TranslateOptions
from options.load import with_settings

USAGE = """\
usage: python translate.py RUN INPUT OUTPUT [direction=photo_to_monet] [option=value ...]

Translates a picture, all pictures in a folder and its subfolders, or all that match a pattern
("photos/*.jpg"), of any size; an output has the size, the name and the subfolder of its input.
INPUT - reads standard input, OUTPUT - writes PNG to standard output. RUN is a folder made by
train.py, a checkpoint in it, a bundle made by export.py, a *_net_G*.pth of
pytorch-CycleGAN-and-pix2pix, or an artifact wandb:ENTITY/PROJECT/NAME:ALIAS.
"""


def main(arguments: list[str]) -> None:
    """Translate the pictures that the command line names."""
    paths, settings = split_words(arguments)
    options = with_settings(TranslateOptions(), settings, USAGE)
    if options is None:
        return
    if len(paths) > 3 and all(os.path.exists(path) for path in paths[1:-1]):
        raise UserError(
            f"RUN, INPUT and OUTPUT are three names, got {len(paths)}; quote a pattern, which the "
            'shell otherwise replaces by its files: "photos/*.jpg"'
        )
    if len(paths) != 3:
        raise UserError(
            "usage: python translate.py RUN INPUT OUTPUT [direction=photo_to_monet]; "
            "--help shows all options"
        )
    run, source, target = paths
    translate(run, source, target, options)


if __name__ == "__main__":
    run_command(main)
