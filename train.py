"""Train a translator: python train.py PRESET [option=value ...]. Repeat the command to continue."""

from common.run_main import run_command
from engine.distributed.context import DistributedContext
from options.load import train_options
from training.train import print_summary, runs_for_seeds, train


def main(arguments: list[str]) -> None:
    """Train the run that the command line describes, in one process or as one of torchrun's."""
    with DistributedContext.from_env() as distributed:
        options = train_options(arguments)
        if options is None:  # help was printed
            return
        if options.summary:
            print_summary(options)
            return
        distributed.init_process_group(options.runtime)
        for run in runs_for_seeds(options):
            train(run, distributed)


if __name__ == "__main__":
    run_command(main)
