"""Read configurations and artifacts of runs back from W&B, from its server or an offline folder."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError, one_line
from common.user_paths import parse_path
from engine.tracking.offline_run_reader import is_offline, read_offline
from engine.tracking.wandb_config import clean_name, has_key
from engine.tracking.wandb_run import import_wandb

PREFIX = "wandb:"
API_TIMEOUT = 20  # seconds


def is_wandb_name(name: str) -> bool:
    """Return whether a name is one of W&B: wandb:ENTITY/PROJECT/..., or an offline run's folder."""
    return name.startswith(PREFIX) or is_offline(parse_path(name))


def run_config(name: str) -> dict[str, Any]:
    """Return the configuration of a run; UserError where it cannot be read."""
    if not name.startswith(PREFIX):
        return read_offline(parse_path(name)).config
    path = _wandb_path(name, "RUN")
    config = _query(name, lambda api: api.run(path).config)
    if not isinstance(config, Mapping) or not config:
        raise UserError(f"{name}: the run has no configuration", path=name)
    return dict(config)


def download_artifact(name: str, into: Path) -> Path:
    """Download the artifact wandb:ENTITY/PROJECT/NAME:ALIAS once; return the folder with its files.

    UserError where it cannot be downloaded, or where a file in it has a name that leads out of its
    folder or is only a reference to a file elsewhere. Its files are not opened here.
    """
    path = _wandb_path(name, "ARTIFACT:ALIAS")

    def download(api: Any) -> Path:
        artifact = api.artifact(path)
        check_files(name, artifact.manifest.entries)
        folder = into / clean_name(f"{path.partition(':')[0]}-{artifact.version}-{artifact.digest}")
        if not folder.is_dir():
            into.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=into) as partial:
                complete = Path(partial, folder.name)
                artifact.download(root=str(complete), skip_cache=True)
                try:
                    os.replace(complete, folder)
                except OSError:
                    if not folder.is_dir():  # else another process was faster
                        raise
        return folder

    return _query(name, download)


def check_files(name: str, entries: Mapping[str, Any]) -> None:
    """Raise UserError where a file of an artifact would be written, or read, outside its folder."""
    for inside, entry in entries.items():
        parts = str(inside).replace("\\", "/").split("/")
        leads_out = any(part in ("", ".", "..") for part in parts) or ":" in parts[0]
        if leads_out or not str(inside).isprintable() or str(entry.path) != str(inside):
            raise UserError(
                f"{name}: a file in it is called '{str(inside)[:80]}'; it is not opened", path=name
            )
        if getattr(entry, "ref", None):
            raise UserError(
                f"{name}: '{str(inside)[:80]}' is a reference; it is not followed", path=name
            )
    if not entries:
        raise UserError(f"{name}: the artifact has no files", path=name)


def _wandb_path(name: str, last: str) -> str:
    """Return ENTITY/PROJECT/LAST of a name; UserError where it has another form."""
    path = name.removeprefix(PREFIX)
    parts = path.split("/")
    if len(parts) != 3 or not all(part.strip(". ") and part.isprintable() for part in parts):
        raise UserError(
            f"{name}: a name in W&B is written as {PREFIX}ENTITY/PROJECT/{last}", path=name
        )
    return path


def _query(name: str, request: Callable[[Any], Any]) -> Any:
    """Return `request(api)`; UserError without a key or network, or where `name` is unknown."""
    if not has_key():
        raise UserError(
            f"{name}: no key for the W&B server is configured; use: wandb login", path=name
        )
    try:
        return request(import_wandb().Api(timeout=API_TIMEOUT))
    except UserError:
        raise
    except Exception as error:  # of the library, the network or the server
        raise UserError(
            f"{name}: W&B could not return it ({one_line(error, 120)})", path=name
        ) from None
