"""Describe and upload the W&B artifacts of a run: data record, checkpoints and exported bundles."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.config import DataConfig
from engine.checkpoint import MANIFEST, Checkpoints
from engine.provenance_files import DATA, fingerprints, read_data
from engine.tracking.wandb_config import wandb_run_id
from engine.tracking.wandb_run import WandbRun

ArtifactSpec = tuple[str, str, dict[str, Path], dict[str, Any]]
"""Name, type, name inside the artifact -> file, metadata."""


def dataset_artifact(run: Path, config: DataConfig) -> ArtifactSpec:
    """Return the artifact of data.json: names, sizes and hashes of the images, but no image."""
    name = Path(config.root or next(iter(config.train.values()), "images")).name
    facts = fingerprints(read_data(run))
    return f"data-{name}", "dataset", {DATA: run / DATA}, {"fingerprint": facts}


def model_name(run: Path) -> str:
    """Return the artifact name of a run's checkpoints."""
    return f"{run.resolve().name}-{wandb_run_id(run)}"


def upload_checkpoints(wandb: WandbRun, run: Path, facts: Mapping[str, Any]) -> None:
    """Upload the best and the last checkpoint, each as a run folder that translate.py opens."""
    if not wandb.uploads:
        return
    checkpoints = Checkpoints(run / "checkpoints")
    for alias, entry in checkpoints.latest_and_best().items():
        manifest = run / "checkpoints" / f".{alias}.json"
        manifest.write_text(json.dumps(entry))
        files = {
            "options.yaml": run / "options.yaml",
            f"checkpoints/{MANIFEST}": manifest,
            f"checkpoints/{entry['latest']}": run / "checkpoints" / entry["latest"],
        }
        (known,) = entry["files"].values()
        metadata = {"step": known["step"], "score": known["score"], "config": dict(facts)}
        aliases = [f"step-{known['step']}", *alias.split("_")]
        wandb.log_artifact(model_name(run), "model", files, metadata, aliases)


def bundle_artifact(
    run: Path, folder: Path, direction: str, facts: Mapping[str, Any]
) -> ArtifactSpec:
    """Return the artifact of an exported bundle, with all its files."""
    files = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    return f"{model_name(run)}-{direction}", "bundle", files, dict(facts)
