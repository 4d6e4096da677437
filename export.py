"""Export a run for use elsewhere: python export.py RUN [direction=a_to_b] [formats=[onnx,fp16]]."""

from common.command_line import split_words
from common.errors import UserError
from common.run_main import run_command
from common.user_paths import parse_path
from deployment.export import export
from options.config import ExportOptions
from options.load import with_settings

USAGE = """\
usage: python export.py RUN [direction=photo_to_monet] [formats=[safetensors,onnx,pt2]]
                        [option=value ...]

Writes a folder RUN/export/DIRECTION for each direction, with the weights, graphs that run without
this software, a script that runs them, a model card and a manifest. The outputs of every file are
compared with those of the translator before the folder gets its name. RUN is a folder made by
train.py, a checkpoint in it, or a *_net_G*.pth of pytorch-CycleGAN-and-pix2pix (with out=FOLDER).
"""


def main(arguments: list[str]) -> None:
    """Export the run that the command line names."""
    paths, settings = split_words(arguments)
    options = with_settings(ExportOptions(), settings, USAGE)
    if options is None:
        return
    if len(paths) != 1:
        raise UserError(
            "name one run, such as: python export.py runs/demo; --help shows all options"
        )
    export(parse_path(paths[0]), options)


if __name__ == "__main__":
    run_command(main)
