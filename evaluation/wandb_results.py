"""Log the results of an evaluation to Weights & Biases."""

import secrets
from dataclasses import replace

from engine.tracking.wandb_config import WandbMode
from engine.tracking.wandb_run import WandbRun
from evaluation.results import EvaluationResult
from inference.open_run import Run


def log_results(run: Run, result: EvaluationResult, mode: WandbMode) -> str:
    """Log test/DIRECTION/METRIC to the summary, and a table of images for each direction.

    Return the message of the W&B run. The mode `auto` logs as the training run did.
    """
    trained = run.options.log
    group = trained.group or run.path.resolve().name
    config = replace(trained, wandb=trained.wandb if mode == "auto" else mode, group=group)
    facts = {"run": run.path.resolve().name, "protocol": result.protocol,
             "protocols": {name: each.protocol for name, each in result.directions.items()}}  # fmt: skip
    wandb = WandbRun(config, run.path, secrets.token_hex(4), facts, "eval")
    for direction, each in result.directions.items():
        columns = list(dict.fromkeys(name for _, metrics in each.image_metrics for name in metrics))
        rows = [
            [name, *(metrics.get(key) for key in columns)] for name, metrics in each.image_metrics
        ]
        wandb.table(f"images/{direction}", ["image", *columns], rows)
    wandb.update_summary({
        f"test/{direction}/{name}": value
        for direction, each in result.directions.items()
        for name, value in each.metrics.items()
        if isinstance(value, int | float)
    })  # fmt: skip
    wandb.finish()
    return wandb.message
