"""Translate pictures: python translate.py RUN INPUT OUTPUT [direction=a_to_b]."""

import sys

from common.command import run_command
from common.errors import UserError
from common.user_paths import parse_path
from options.config import TranslateOptions
from options.load import split_words, with_settings

USAGE = """\
usage: python translate.py RUN INPUT OUTPUT [direction=photo_to_monet] [option=value ...]

Translates a picture, every picture in a folder (its tree is kept) or of a pattern ("photos/*.jpg"), of any
size; the output has the size and the name of the input. INPUT - reads standard input, OUTPUT - writes PNG
to standard output. RUN is a folder that train.py made, a checkpoint in it, a bundle that export.py
made, a *_net_G*.pth of pytorch-CycleGAN-and-pix2pix, or an artifact wandb:ENTITY/PROJECT/NAME:ALIAS.
"""


def main(arguments: list[str]) -> None:
    """Do what the command line asks for."""
    paths, settings = split_words(arguments)
    options = with_settings(TranslateOptions(), settings, USAGE)
    if options is None:
        return
    if len(paths) != 3:
        raise UserError(
            "usage: python translate.py RUN INPUT OUTPUT [direction=photo_to_monet]; --help explains"
        )

    if "" in paths:
        raise UserError(
            "RUN, INPUT and OUTPUT are paths, and one of them is empty; . is this folder"
        )

    from inference.open_run import direction_of, open_run
    from inference.translate import translate_paths, translate_stream

    run = open_run(parse_path(paths[0]), options.runtime, options.checkpoint, options.use_ema)
    for note in run.options.method.notes():
        print(f"note: {note}", file=sys.stderr)  # a picture may go to standard output
    direction = direction_of(run, options.direction)
    if paths[2] == "-" and paths[1] != "-":
        raise UserError(
            f"OUTPUT - goes with INPUT -: python translate.py {paths[0]} - - < {paths[1]}"
        )
    if paths[1] == "-":
        translate_stream(run, direction, paths[2], options)
        return
    count = translate_paths(run, direction, paths[1], parse_path(paths[2]), options)
    print(f"{count} translated {direction} into {paths[2]}")


if __name__ == "__main__":
    run_command(main)
