"""Translate pictures: python translate.py RUN INPUT OUTPUT [direction=a_to_b]."""

from pathlib import Path

from errors import UserError, run_command
from options.config import TranslateOptions
from options.load import with_settings

USAGE = """\
usage: python translate.py RUN INPUT OUTPUT [direction=photo_to_monet] [option=value ...]

Translates a picture, or every picture in a folder, of any size; the output has the size and the name of
the input. RUN is a folder that train.py made, or a checkpoint in it.
"""


def main(arguments: list[str]) -> None:
    """Do what the command line asks for."""
    paths = [word for word in arguments if not _is_setting(word)]
    settings = [word for word in arguments if _is_setting(word)]
    options = with_settings(TranslateOptions(), settings, USAGE)
    if options is None:
        return
    if len(paths) != 3:
        raise UserError(
            "usage: python translate.py RUN INPUT OUTPUT [direction=photo_to_monet]; --help explains"
        )

    from inference.run import direction_of, open_run
    from inference.translate import translate_paths

    run = open_run(
        Path(paths[0]).expanduser(), options.runtime, options.checkpoint, options.weights
    )
    direction = direction_of(run, options.direction)
    count = translate_paths(
        run, direction, Path(paths[1]).expanduser(), Path(paths[2]).expanduser()
    )
    print(f"{count} translated {direction} into {paths[2]}")


def _is_setting(word: str) -> bool:
    return word.startswith("-") or ("=" in word and not Path(word).exists())


if __name__ == "__main__":
    run_command(main)
