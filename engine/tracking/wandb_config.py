"""Configure what is logged and where to: project, mode, run id, names."""

import netrc
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

from common.errors import UserError
from common.files import read_text, write_text
from data.fingerprint import Fingerprint

INVALID_IN_PROJECT, MAX_PROJECT = frozenset("/\\#?%:"), 128  # W&B's own rule
WandbMode = Literal["auto", "online", "offline", "disabled"]


@dataclass(frozen=True)
class LogConfig:
    """The log of a run: how often it is written, and where to."""

    every: int = 20  # steps between two lines of metrics.jsonl
    previews_every: int = 500  # steps between two preview grids; 0: one at the end
    previews: int = 4  # images of each direction in a preview
    wandb: WandbMode = "auto"  # auto: online where a key is configured, else offline
    project: str = "diptych"  # W&B project, unless WANDB_PROJECT is set
    tags: list[str] | None = None  # W&B tags of the run
    group: str = ""  # W&B group, for several runs of one experiment
    artifacts: bool = False  # upload data record, best and last checkpoint to W&B, where online
    fingerprint: Fingerprint = "contents"  # hash images by contents, or only by name and size

    def __post_init__(self) -> None:
        for option, smallest in (("every", 1), ("previews_every", 0), ("previews", 0)):
            if (value := getattr(self, option)) < smallest:
                raise UserError(
                    f"log.{option} must be at least {smallest}, got {value}", option=f"log.{option}"
                )
        project = os.environ.get("WANDB_PROJECT") or self.project
        if set(project) & INVALID_IN_PROJECT or not 0 < len(project) <= MAX_PROJECT:
            source = "WANDB_PROJECT" if os.environ.get("WANDB_PROJECT") else "log.project"
            raise UserError(
                f"{source}='{project[:60]}' is not a name of a W&B project: 1 to {MAX_PROJECT} "
                f"characters, without {' '.join(sorted(INVALID_IN_PROJECT))}",
                option="log.project",
            )


def wandb_run_id(folder: Path) -> str:
    """Return the W&B id of the run in a folder: a sweep's or a random one, stored in `wandb_id`."""
    path = folder / "wandb_id"
    if not path.exists():
        sweep_id = os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID")
        write_text(path, clean_name(sweep_id) if sweep_id else secrets.token_hex(4))
    try:
        return read_text(path).strip()
    except (OSError, ValueError):
        raise UserError(f"{path}: cannot be read; remove it", path=path) from None


def wandb_mode(wanted: str) -> str:
    """Return online, offline or disabled; `auto` is WANDB_MODE, else online if there is a key."""
    if wanted != "auto":
        return wanted
    environment = os.environ.get("WANDB_MODE", "")
    if environment in ("online", "offline", "disabled"):
        return environment
    return "online" if has_key() else "offline"


def has_key() -> bool:
    """Return whether a key for the W&B server is configured."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError, RuntimeError):
        return False


def clean_name(text: str) -> str:
    """Return a text as a name for W&B and file systems: 128 letters, digits, . _ - at most."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:128].strip(".-") or "run"


def sweep_suffix() -> str:
    """Return -RUN_ID in a W&B sweep, so that each of its runs has its own folder; else ""."""
    run_id = os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID")
    return f"-{clean_name(run_id)}" if run_id else ""
