"""Read a bundle, one direction of a run written by export.py, without running code from it.

`manifest.json` names every file with its sha256 and holds the run's options, from which the network
is built again; `model.safetensors` holds its weights. No other file is read: a `.pt2` can run code.
"""

import errno
import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from common.errors import UserError, as_user_error, one_line
from common.files import read_json, regular_file
from engine.checkpoint import state_dict_mismatch
from engine.checkpoint_content import check_sizes
from engine.upgrade_format_1 import WEIGHTS as WEIGHTS_OF_FORMAT_1
from models import methods
from models.translator import FixedStyle, StyledTranslator, Translator
from options.config import TrainOptions
from options.load import from_yaml

FORMAT = 2
MAX_WEIGHTS = 2**30  # bytes; a generator of the papers has 45 MB
KIND = "unpaired image translator"
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
Weights = Literal["ema", "raw"]


@dataclass(frozen=True)
class Bundle:
    """The content of a bundle folder: the description of its translator, and the weights."""

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
    """Return whether a path is a bundle's folder, intact or damaged."""
    folder = Path(path)
    if (folder / WEIGHTS).is_file():
        return True
    try:
        content = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Return manifest.json; UserError if it is missing, damaged or of a newer format."""
    path = Path(folder) / MANIFEST
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; export the run again", path=path) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error, 80)}); export the run again", path=path
        ) from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(f"{path} is not the manifest of a bundle; export.py writes one", path=path)
    version = content.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            f"{path} has format {version}, this software reads {FORMAT}; use a newer version of it",
            path=path,
        )
    return content


def options_of_bundle(folder: str | Path) -> TrainOptions:
    """Return the options of the run that a bundle came from, without reading its weights."""
    return from_yaml(_field(read_manifest(folder), folder, "options", str), str(folder))


def read_bundle(folder: str | Path) -> Bundle:
    """Return the bundle in a folder, after checking the sha256 of its weights.

    UserError names a file that is missing, damaged or of a newer format.
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
        raise UserError(
            f"{folder} has no {WEIGHTS}; export it with formats=[safetensors,...]",
            option="formats",
            path=folder,
        )
    weights = WEIGHTS_OF_FORMAT_1.get(texts["weights"], texts["weights"])
    if weights not in ("ema", "raw") or not isinstance(files[WEIGHTS], dict):
        raise UserError(
            f"{folder / MANIFEST} is damaged; export the run again", path=folder / MANIFEST
        )
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
    """Return the tensors of a safetensors file; UserError if its sha256 is another."""
    require("safetensors")
    import safetensors
    import safetensors.torch

    try:
        with open(path, "rb", opener=regular_file) as file:
            if os.fstat(file.fileno()).st_size > MAX_WEIGHTS:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
            content = file.read()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); export the run again", path=path
        ) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{path}: the file is damaged (its checksum is wrong); export the run again", path=path
        )
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: not a safetensors file ({one_line(error, 80)}); export the run again",
            path=path,
        ) from None


def build_translator(bundle: Bundle) -> Translator:
    """Return the bundle's translator on the CPU, in evaluation mode, with plain kernels.

    UserError if its weights do not fit the network that its manifest describes.
    """
    check_sizes(bundle.options.method, bundle.state, bundle.path)
    check_sizes(bundle.options.data, bundle.state, bundle.path, "data")
    try:
        method = methods.build(bundle.options.method, bundle.options.data.channels_of())
    except ValueError as error:
        raise as_user_error(error, bundle.path) from None
    translators = method.translators()
    if bundle.direction not in translators:
        raise UserError(
            f"{bundle.path}: its method has no direction {bundle.direction}; export the run again",
            path=bundle.path,
        )
    translator = translators[bundle.direction]
    assert isinstance(translator, Translator)
    if isinstance(translator, StyledTranslator):
        if "generator.style" not in bundle.state:
            raise UserError(
                f"{bundle.path}: its weights do not fit its manifest (no style)", path=bundle.path
            )
        translator = FixedStyle(translator, torch.zeros_like(bundle.state["generator.style"]))
    if mismatch := state_dict_mismatch(translator.state_dict(), bundle.state):
        raise UserError(
            f"{bundle.path}: its weights do not fit its manifest: {mismatch}", path=bundle.path
        )
    try:
        translator.load_state_dict(bundle.state)
    except RuntimeError as error:
        raise UserError(
            f"{bundle.path}: its weights do not fit its manifest ({one_line(error, 120)})",
            path=bundle.path,
        ) from None
    return translator.eval().requires_grad_(False)


def require(*packages: str) -> None:
    """Raise UserError with the command that installs them if packages are missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} missing: pip install -r requirements-optional.txt"
        )


def _field(manifest: dict[str, Any], folder: str | Path, name: str, kind: type) -> Any:
    value = manifest.get(name)
    if not isinstance(value, kind):
        path = Path(folder) / MANIFEST
        raise UserError(f"{path} is damaged (it has no {name}); export the run again", path=path)
    return value
