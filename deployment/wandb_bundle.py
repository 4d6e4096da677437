"""Upload an exported bundle to Weights & Biases."""

import secrets
from dataclasses import replace
from pathlib import Path

from engine.tracking.wandb_artifacts import bundle_artifact, model_name
from engine.tracking.wandb_config import clean_name
from engine.tracking.wandb_run import WandbRun
from inference.open_run import Run


def log_bundle(run: Run, folder: Path, direction: str) -> str:
    """Upload a bundle of a run as a W&B artifact; return a line for the terminal.

    Bundles are uploaded only while W&B is online.
    """
    trained = run.options.log
    group = trained.group or run.path.resolve().name
    wandb = WandbRun(
        replace(trained, artifacts=True, group=group), run.path, secrets.token_hex(4),
        {"run": run.path.resolve().name, "step": run.step, "weights": run.weights}, "export",
    )  # fmt: skip
    wandb.use_known_artifact(f"{clean_name(model_name(run.path))}:step-{run.step}")
    artifact = bundle_artifact(
        run.path, folder, direction, {"step": run.step, "weights": run.weights}
    )
    wandb.log_artifact(*artifact, aliases=[f"step-{run.step}"])
    wandb.finish()
    return wandb.message if wandb.uploads else f"{wandb.message}; a bundle is uploaded online only"
