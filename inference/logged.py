"""What comes after training in W&B: figures with a table of every image, and exported bundles."""

import secrets
from dataclasses import replace
from pathlib import Path

from engine.artifacts import bundle_of, model_name
from engine.logger import WandbLogger, WandbMode, clean_name
from inference.evaluate import Result
from inference.run import Run


def log_figures(run: Run, result: Result, mode: WandbMode) -> str:
    """Log test/DIRECTION/FIGURE in the summary and a table a direction; return what to tell of it.

    `auto` is what the training run was told.
    """
    trained = run.options.log
    group = trained.group or run.path.resolve().name
    config = replace(trained, wandb=trained.wandb if mode == "auto" else mode, group=group)
    facts = {"run": run.path.resolve().name, "protocol": result.protocol}
    wandb = WandbLogger(config, run.path, secrets.token_hex(4), facts, "eval")
    for direction, images in result.images.items():
        columns = list(dict.fromkeys(name for _, figures in images for name in figures))
        rows = [[name, *(figures.get(key) for key in columns)] for name, figures in images]
        wandb.table(f"images/{direction}", ["image", *columns], rows)
    wandb.summarise({
        f"test/{direction}/{name}": value
        for direction, figures in result.figures.items()
        for name, value in figures.items()
        if isinstance(value, int | float)
    })  # fmt: skip
    wandb.finish()
    return wandb.message


def log_bundle(run: Run, folder: Path, direction: str) -> str:
    """Upload a bundle that was exported from a run, where W&B is online; return what to tell of it."""
    trained = run.options.log
    group = trained.group or run.path.resolve().name
    wandb = WandbLogger(
        replace(trained, artifacts=True, group=group), run.path, secrets.token_hex(4),
        {"run": run.path.resolve().name, "step": run.step, "weights": run.weights}, "export",
    )  # fmt: skip
    wandb.uses_known(f"{clean_name(model_name(run.path))}:step-{run.step}")
    made = bundle_of(run.path, folder, direction, {"step": run.step, "weights": run.weights})
    wandb.made(*made, aliases=[f"step-{run.step}"])
    wandb.finish()
    return wandb.message if wandb.uploads else f"{wandb.message}; a bundle is uploaded online only"
