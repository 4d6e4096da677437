"""The record of a run: metrics.jsonl, and Weights & Biases as its mirror."""

import json
import math
import netrc
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import numpy as np

from engine.state import write_text
from errors import UserError, one_line

WandbMode = Literal["auto", "online", "offline", "disabled"]


@dataclass(frozen=True)
class LogConfig:
    """What is recorded, how often, and where."""

    every: int = 20  # steps between two lines of metrics.jsonl
    previews_every: int = 500  # steps between two preview grids; 0 draws one at the end
    previews: int = 4  # images of each direction in a preview
    wandb: WandbMode = "auto"  # auto: online where a key is configured, else offline
    project: str = "unpaired-translation"  # W&B project, unless WANDB_PROJECT says
    tags: list[str] | None = None  # W&B tags of the run
    group: str = ""  # W&B group, for several runs of one experiment

    def __post_init__(self) -> None:
        for option, least in (("every", 1), ("previews_every", 0), ("previews", 0)):
            if getattr(self, option) < least:
                raise UserError(
                    f"log.{option} must be at least {least}, got {getattr(self, option)}"
                )


class MetricsFile:
    """RUN/metrics.jsonl: one JSON object a line, handed to the system when `write` returns."""

    def __init__(self, path: Path, from_step: int) -> None:
        """Drop the lines after `from_step`, which will be computed again, and a torn last one."""
        self.path = path
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= from_step]
            write_text(path, "".join(line + "\n" for line in kept))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one line."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


class WandbLogger:
    """A run in Weights & Biases; whatever goes wrong there, training goes on.

    Steps are the run's own, so a resumed run continues its curves; `images` is the x axis of every
    chart, so that batch sizes can be compared.
    """

    def __init__(
        self, config: LogConfig, run_folder: Path, run_id: str, resolved: Mapping[str, Any]
    ) -> None:
        self.run: Any = None
        self.message = "W&B: disabled"
        mode = wandb_mode(config.wandb)
        if mode == "disabled":
            return
        keyless = mode == "online" and not _has_key()  # the library would ask, and wait for ever
        mode = "offline" if keyless else mode
        try:
            self._start(config, mode, run_folder, run_id, resolved)
            self.message += " (no key for online: wandb login)" if keyless else ""
        except Exception as error:  # the library raises its own, the network's and the server's
            self.message = f"W&B: not available ({one_line(error, 120)}); "
            if mode == "offline":
                self.message += "logging to metrics.jsonl only"
                return
            try:
                self._start(config, "offline", run_folder, run_id, resolved)
                self.message = f"W&B: online failed ({one_line(error, 120)}); logging offline"
            except Exception as second:
                self.message += f"offline failed too ({one_line(second, 80)})"

    def _start(
        self, config: LogConfig, mode: str, folder: Path, run_id: str, resolved: Mapping[str, Any]
    ) -> None:
        import wandb  # here: a second that nobody should wait for who has switched it off

        name = clean_name(folder.resolve().name)
        swept = "WANDB_SWEEP_ID" in os.environ  # an agent has chosen the id
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or config.project, name=name,
            id=None if swept else run_id, resume=None if swept else "allow",
            dir=os.environ.get("WANDB_DIR") or str(folder), config=dict(resolved),
            group=clean_name(config.group) if config.group else None, tags=config.tags, mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=30, finish_timeout=60,
                x_save_requirements=False,
            ),
        )  # fmt: skip
        self.run.define_metric("images")
        self.run.define_metric("*", step_metric="images")
        self.message = f"W&B: {mode} run {self.run.id}"
        if mode == "offline":
            self.message += f", upload it with: wandb sync {Path(self.run.dir).parent}"
        elif self.run.url:
            self.message += f" at {self.run.url}"

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Log numbers under their names at the run's own step."""
        self._safely(lambda: self.run.log(dict(values), step=step))

    def images(
        self, grids: Mapping[str, np.ndarray], captions: Mapping[str, str], step: int, seen: int
    ) -> None:
        """Log uint8 pictures [H, W, 3] under previews/NAME, `seen` images into the run."""

        def send() -> None:
            import wandb

            pictures = {
                f"previews/{name}": wandb.Image(grid, caption=captions[name], file_type="jpg")
                for name, grid in grids.items()
            }
            self.run.log(pictures | {"images": seen}, step=step)

        self._safely(send)

    def alert(self, title: str, text: str, step: int) -> None:
        """Send a warning to whom it concerns."""
        self._safely(lambda: self.run.alert(title[:120], f"{text} (step {step})", level="WARN"))

    def finish(self, exit_code: int = 0) -> None:
        """Close the run."""
        self._safely(lambda: self.run.finish(exit_code=exit_code))
        self.run = None

    def _safely(self, action: Any) -> None:
        if self.run is None:
            return
        try:
            action()
        except Exception as error:
            print(f"note: W&B stopped logging ({one_line(error, 120)}); metrics.jsonl goes on")
            self.run = None


def wandb_mode(wanted: str) -> str:
    """Return online, offline or disabled; `auto` asks WANDB_MODE, then whether a key is configured."""
    if wanted != "auto":
        return wanted
    environment = os.environ.get("WANDB_MODE", "")
    if environment in ("online", "offline", "disabled"):
        return environment
    return "online" if _has_key() else "offline"


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError, RuntimeError):
        return False


def clean_name(text: str) -> str:
    """Return a text as a name that W&B, and every file system, takes: letters, digits, . _ -, at most 128."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:128].strip(".-") or "run"


def sections(losses: Mapping[str, float]) -> dict[str, float]:
    """Put names under the sections that W&B groups charts by: `loss/` where they have none."""
    return {name if "/" in name else f"loss/{name}": value for name, value in losses.items()}


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf  # the torn last line of a killed run
