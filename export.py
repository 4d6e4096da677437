"""Export a run for use elsewhere: python export.py RUN [direction=a_to_b] [formats=[onnx,fp16]]."""

import sys

from common.command import run_command
from common.errors import UserError
from common.user_paths import parse_path
from options.config import ExportOptions
from options.load import split_words, with_settings

USAGE = """\
usage: python export.py RUN [direction=photo_to_monet] [formats=[safetensors,onnx,pt2]] [option=value ...]

Writes a folder RUN/export/DIRECTION for each direction, with the weights, graphs that run without this
software, a runner, a model card and a manifest. Every file is run and compared with the translator itself
before the folder gets its name. RUN is a folder that train.py made, a checkpoint
in it, or a *_net_G*.pth of pytorch-CycleGAN-and-pix2pix (with out=FOLDER).
"""


def main(arguments: list[str]) -> None:
    """Do what the command line asks for."""
    paths, settings = split_words(arguments)
    options = with_settings(ExportOptions(), settings, USAGE)
    if options is None:
        return
    if len(paths) != 1:
        raise UserError("name one run, such as: python export.py runs/demo; --help explains")

    from deployment.export import export_run, require_packages
    from deployment.wandb_bundle import log_bundle
    from engine.runtime import RuntimeConfig
    from inference.open_run import open_run

    require_packages(options.formats)
    # Plain kernels on the CPU, never compiled: what is traced is what is written down.
    run = open_run(
        parse_path(paths[0]),
        RuntimeConfig(device="cpu"),
        options.checkpoint,
        options.use_ema,
    )
    for note in run.options.method.notes():
        print(f"note: {note}", file=sys.stderr)
    for folder in export_run(run, options):
        print(f"exported into {folder}")
        if options.artifacts:
            print(log_bundle(run, folder, folder.name))


if __name__ == "__main__":
    run_command(main)
