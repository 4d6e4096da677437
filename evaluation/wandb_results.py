"""What comes after training in W&B: figures with a table of every image, and exported bundles."""

import secrets
from dataclasses import replace

from engine.tracking.wandb_run import WandbMode, WandbRun
from evaluation.evaluate import Result
from inference.open_run import Run


def log_figures(run: Run, result: Result, mode: WandbMode) -> str:
    """Log test/DIRECTION/FIGURE in the summary and a table a direction; return what to tell of it.

    `auto` is what the training run was told.
    """
    trained = run.options.log
    group = trained.group or run.path.resolve().name
    config = replace(trained, wandb=trained.wandb if mode == "auto" else mode, group=group)
    facts = {"run": run.path.resolve().name, "protocol": result.protocol}
    wandb = WandbRun(config, run.path, secrets.token_hex(4), facts, "eval")
    for direction, images in result.images.items():
        columns = list(dict.fromkeys(name for _, figures in images for name in figures))
        rows = [[name, *(figures.get(key) for key in columns)] for name, figures in images]
        wandb.table(f"images/{direction}", ["image", *columns], rows)
    wandb.update_summary({
        f"test/{direction}/{name}": value
        for direction, figures in result.figures.items()
        for name, value in figures.items()
        if isinstance(value, int | float)
    })  # fmt: skip
    wandb.finish()
    return wandb.message
