"""A bundle: one direction of a run as export.py writes it, and read back without running any code.

`manifest.json` names every file with its sha256 and holds the run's options, from which the network is
built again; `model.safetensors` holds its weights. Nothing else is read: a `.pt2` file can run code.
"""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from common.errors import UserError, one_line
from engine.format_1 import WEIGHTS as WEIGHTS_OF_FORMAT_1
from models import methods
from models.translator import FixedStyle, StyledTranslator, Translator
from options.config import TrainOptions
from options.load import from_yaml

FORMAT = 2
KIND = "unpaired image translator"
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
Weights = Literal["ema", "raw"]


@dataclass(frozen=True)
class Bundle:
    """What a bundle folder says of its translator, and the translator's weights."""

    path: Path
    direction: str
    source: str
    target: str
    step: int
    weights: Weights  # what `state` is: the EMA of the weights, or the weights themselves
    options: TrainOptions  # of the run that it came from
    state: dict[str, Tensor]  # the translator's state dict, on the CPU
    manifest: dict[str, Any]  # all of manifest.json


def is_bundle(path: str | Path) -> bool:
    """Say whether a path is a bundle's folder, be it whole or damaged."""
    folder = Path(path)
    if (folder / WEIGHTS).is_file():
        return True
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Return manifest.json; UserError where it is missing, damaged or of a newer format."""
    path = Path(folder) / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; export the run again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error, 80)}); export the run again"
        ) from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(f"{path} is no manifest of a bundle; export.py makes one")
    version = content.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            f"{path} has format {version}, this software reads {FORMAT}; use a newer version of it"
        )
    return content


def options_of_bundle(folder: str | Path) -> TrainOptions:
    """Return the options of the run that a bundle came from, without reading its weights."""
    return from_yaml(_field(read_manifest(folder), folder, "options", str), str(folder))


def read_bundle(folder: str | Path) -> Bundle:
    """Return the bundle in a folder, its weights checked against their sha256.

    UserError, in one line that names the file, where one is missing, damaged or of a newer format.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    texts = {
        name: _field(manifest, folder, name, str)
        for name in ("direction", "source", "target", "weights", "options")
    }
    files = _field(manifest, folder, "files", dict)
    path = folder / WEIGHTS
    if WEIGHTS not in files:
        raise UserError(f"{folder} holds no {WEIGHTS}; export it with formats=[safetensors,...]")
    weights = WEIGHTS_OF_FORMAT_1.get(texts["weights"], texts["weights"])
    if weights not in ("ema", "raw") or not isinstance(files[WEIGHTS], dict):
        raise UserError(f"{folder / MANIFEST} is damaged; export the run again")
    return Bundle(
        path=folder,
        direction=texts["direction"],
        source=texts["source"],
        target=texts["target"],
        step=_field(manifest, folder, "step", int),
        weights="ema" if weights == "ema" else "raw",
        options=from_yaml(texts["options"], str(folder / MANIFEST)),
        state=read_weights(path, files[WEIGHTS].get("sha256")),
        manifest=manifest,
    )


def read_weights(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; UserError where its bytes are not those of `sha256`."""
    require("safetensors")
    import safetensors
    import safetensors.torch

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); export the run again"
        ) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{path}: the file is damaged (its checksum is wrong); export the run again"
        )
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file ({one_line(error, 80)})") from None


def build_translator(bundle: Bundle) -> Translator:
    """Return the bundle's translator on the CPU, in evaluation mode, with plain kernels.

    UserError where its weights do not fit what its manifest says of the network.
    """
    method = methods.build(bundle.options.method, bundle.options.data.channels_of())
    translators = method.translators()
    if bundle.direction not in translators:
        raise UserError(f"{bundle.path}: {bundle.direction} is no direction of its method")
    translator = translators[bundle.direction]
    assert isinstance(translator, Translator)
    if isinstance(translator, StyledTranslator):
        if "generator.style" not in bundle.state:
            raise UserError(f"{bundle.path}: its weights do not fit its manifest (no style)")
        translator = FixedStyle(translator, torch.zeros_like(bundle.state["generator.style"]))
    try:
        translator.load_state_dict(bundle.state)
    except RuntimeError as error:
        raise UserError(
            f"{bundle.path}: its weights do not fit its manifest ({one_line(error, 120)})"
        ) from None
    return translator.eval().requires_grad_(False)


def require(*packages: str) -> None:
    """Raise UserError with the command that installs them where packages are missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} missing: pip install -r requirements-optional.txt"
        )


def _field(manifest: dict[str, Any], folder: str | Path, name: str, kind: type) -> Any:
    value = manifest.get(name)
    if not isinstance(value, kind):
        raise UserError(
            f"{Path(folder) / MANIFEST} is damaged (it has no {name}); export the run again"
        )
    return value
