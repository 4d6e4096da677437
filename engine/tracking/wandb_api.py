"""What W&B keeps of a run, on its server or in an offline folder, given back as plain values."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError, one_line
from common.user_paths import parse_path
from engine.tracking.wandb_offline import is_offline, read_offline
from engine.tracking.wandb_run import clean_name, has_key, import_wandb

PREFIX = "wandb:"
SECONDS = 20  # for an answer


def is_wandb_name(name: str) -> bool:
    """Say whether a word names something in W&B: wandb:ENTITY/PROJECT/..., or an offline run's folder."""
    return name.startswith(PREFIX) or is_offline(parse_path(name))


def run_config(name: str) -> dict[str, Any]:
    """Return the configuration of a run; UserError where it cannot be had."""
    if not name.startswith(PREFIX):
        return read_offline(parse_path(name)).config
    path = _path(name, "RUN")
    return _plain(name, _asked(name, lambda api: api.run(path).config))


def download_artifact(name: str, into: Path) -> Path:
    """Return the folder with the files of an artifact wandb:ENTITY/PROJECT/NAME:ALIAS, downloaded once.

    UserError where it cannot be had, or where a file in it has a name that leads out of its folder or is
    only a reference to a file elsewhere. Nothing in it is opened here.
    """
    path = _path(name, "ARTIFACT:ALIAS")

    def download(api: Any) -> Path:
        artifact = api.artifact(path)
        check_files(name, artifact.manifest.entries)
        folder = into / clean_name(f"{path.partition(':')[0]}-{artifact.version}-{artifact.digest}")
        if not folder.is_dir():
            into.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=into) as partial:
                whole = Path(partial, folder.name)
                artifact.download(root=str(whole), skip_cache=True)
                try:
                    os.replace(whole, folder)
                except OSError:
                    if not folder.is_dir():  # else another process was quicker
                        raise
        return folder

    return _asked(name, download)


def check_files(name: str, entries: Mapping[str, Any]) -> None:
    """Raise UserError where a file of an artifact would be written, or read, outside its folder."""
    for inside, entry in entries.items():
        parts = str(inside).replace("\\", "/").split("/")
        leads_out = any(part in ("", ".", "..") for part in parts) or ":" in parts[0]
        if leads_out or not str(inside).isprintable() or str(entry.path) != str(inside):
            raise UserError(
                f"{name}: a file in it is called '{str(inside)[:80]}'; it is not opened"
            )
        if getattr(entry, "ref", None):
            raise UserError(f"{name}: '{str(inside)[:80]}' is a reference; it is not followed")
    if not entries:
        raise UserError(f"{name}: there are no files in it")


def _path(name: str, last: str) -> str:
    """Return ENTITY/PROJECT/LAST of a word; UserError where it has another form."""
    path = name.removeprefix(PREFIX)
    parts = path.split("/")
    if len(parts) != 3 or not all(part.strip(". ") and part.isprintable() for part in parts):
        raise UserError(f"{name}: written as {PREFIX}ENTITY/PROJECT/{last}")
    return path


def _asked(name: str, question: Any) -> Any:
    """Return what the server answers; one line where there is no key, network, or such thing."""
    if not has_key():
        raise UserError(f"{name}: no key for the W&B server is configured; use: wandb login")
    try:
        return question(import_wandb().Api(timeout=SECONDS))
    except UserError:
        raise
    except Exception as error:  # the library raises its own, the network's and the server's
        raise UserError(f"{name}: W&B does not give it ({one_line(error, 120)})") from None


def _plain(name: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{name}: it has no configuration")
    return dict(content)
