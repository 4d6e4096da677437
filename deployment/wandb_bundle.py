"""Upload an exported bundle to Weights & Biases."""

import secrets
from dataclasses import replace
from pathlib import Path

from engine.tracking.wandb_artifacts import bundle_of, model_name
from engine.tracking.wandb_run import WandbLogger, clean_name
from inference.open_run import Run


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
