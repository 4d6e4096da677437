"""Start a run from weights that were learnt before: a run's, a checkpoint's, or the reference's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from common.command import print_line
from common.errors import UserError
from common.text_table import aligned
from engine.checkpoint import Checkpoints, load_checkpoint
from engine.cyclegan_repo_checkpoint import read_discriminator, read_reference
from engine.train_step import TrainStep
from models import methods
from models.method import Method
from options.load import from_yaml

# The reference names generators by what they read, and discriminators after them: D_A judges what G_A
# makes, the images of B. CUT has one of each.
REFERENCE = {
    "G_A": "generator_ab", "G_B": "generator_ba", "D_A": "discriminator_b", "D_B": "discriminator_a",
    "G": "generator_ab", "D": "discriminator_b",
}  # fmt: skip
ABSENT = "not there: fresh"


@dataclass(frozen=True)
class NetworkLoadResult:
    """What became of a network: how many of its tensors were loaded, and why not the others."""

    network: str
    loaded: int
    tensors: int
    reason: str = ""


def load_initial_weights(method: Method, path: Path, strict: bool) -> list[NetworkLoadResult]:
    """Load the weights at `path` into `method`; return what was loaded, a row a network.

    `path` is a run folder, a checkpoint, one *_net_*.pth of the reference, or a folder of them. A
    moving average is taken before live weights; image histories and optimizers are not taken.
    UserError where nothing fits, or, if `strict`, where a network does not fit whole.
    """
    found = read_weights(path)
    rows = []
    for name, network in method.named_children():
        if not (own := dict(network.named_parameters())):
            continue
        there = {
            k.removeprefix(f"{name}."): v for k, v in found.items() if k.startswith(f"{name}.")
        }
        fits = {key: x for key, x in there.items() if key in own and x.shape == own[key].shape}
        with torch.no_grad():
            for key, value in fits.items():
                own[key].copy_(value)
            for key, buffer in network.named_buffers():
                if key in there and there[key].shape == buffer.shape:
                    buffer.copy_(there[key])
        rows.append(NetworkLoadResult(name, len(fits), len(own), _reason(own, there)))
    if not rows:
        raise UserError("init_from: this method has no networks that learn; leave it out")
    if not any(row.loaded for row in rows):
        raise UserError(f"init_from={path}: nothing in it fits these networks ({rows[0].reason})")
    misfit = next((row for row in rows if row.reason and row.reason != ABSENT), None)
    if misfit is not None and strict:
        raise UserError(
            f"init_from={path}: {misfit.network} does not fit ({misfit.reason}); "
            "init_strict=false takes what fits"
        )
    return rows


def _reason(own: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> str:
    """Return why not every tensor of a network was loaded, or nothing."""
    if not there:
        return ABSENT
    missing = [key for key in own if key not in there]
    misfits = [
        f"{key} is {_shape(there[key])}, not {_shape(x)}"
        for key, x in own.items()
        if key in there and there[key].shape != x.shape
    ]
    extra = [key for key in there if key not in own and there[key].ndim > 1]
    return "; ".join([
        *misfits[:2],
        *([f"{len(missing)} not there, such as {missing[0]}"] if missing else []),
        *([f"{len(extra)} more there, such as {extra[0]}"] if extra else []),
    ])  # fmt: skip


def _shape(x: Tensor) -> str:
    return "x".join(map(str, x.shape)) or "a number"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights at a path under the names of our methods; UserError where there are none."""
    if path.suffix == ".pth":
        return _reference_weights([path])
    if path.is_dir() and (files := sorted(path.glob("*_net_*.pth"))):
        return _reference_weights(_newest(files))
    if path.is_dir():
        if not (path / "checkpoints").is_dir():
            raise UserError(f"init_from={path}: neither a run nor a folder of *_net_*.pth files")
        return _own_weights(Checkpoints(path / "checkpoints").load_latest(), path)
    return _own_weights(load_checkpoint(path), path)


def _own_weights(state: dict, path: Path) -> dict[str, Tensor]:
    options = from_yaml(state["options"], str(path))
    try:
        method = methods.build(options.method, options.data.channels_of())
        method.load_state_dict(state["method"])
        if state["ema"] is not None:
            method.translators().load_state_dict(state["ema"])  # the same generators
    except ValueError as error:
        raise UserError(str(error)) from None
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"{path}: its weights do not fit its options ({type(error).__name__})"
        ) from None
    return {name: x for name, x in method.state_dict().items() if isinstance(x, Tensor)}


def _reference_weights(files: list[Path]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in files:
        kind = file.stem.rpartition("_net_")[2]
        if kind not in REFERENCE:
            continue  # CUT's patch sampler, which is learnt in a moment
        network: nn.Module = read_reference(file) if kind[0] == "G" else read_discriminator(file)
        found |= {f"{REFERENCE[kind]}.{name}": x for name, x in network.state_dict().items()}
    if not found:
        raise UserError(
            f"init_from={files[0]}: its name must end with _net_G_A.pth, _net_D_B.pth or alike"
        )
    return found


def _newest(files: list[Path]) -> list[Path]:
    """Return the files of one epoch: `latest`, or the highest number."""
    epochs = {file.stem.partition("_net_")[0] for file in files}
    numbered = sorted((epoch for epoch in epochs if epoch.isdecimal()), key=int)
    chosen = "latest" if "latest" in epochs or not numbered else numbered[-1]
    return [file for file in files if file.stem.startswith(f"{chosen}_net_")]


def fresh_and_trained(method: Method, rows: list[NetworkLoadResult]) -> tuple[list[str], list[str]]:
    """Return the players that were not loaded whole, and those that were."""
    networks = {id(network): name for name, network in method.named_children()}
    whole = {row.network for row in rows if row.loaded == row.tensors}
    fresh, trained = [], []
    for group, module in method.optimizer_groups().items():
        members = module if isinstance(module, nn.ModuleList) else [module]
        names = {networks.get(id(member), "") for member in members}
        (trained if names <= whole else fresh).append(group)
    return fresh, trained


def load_table(rows: list[NetworkLoadResult]) -> str:
    """Return what was loaded for the terminal."""
    cells = [("network", "loaded", "")]
    cells += [(r.network, f"{r.loaded} of {r.tensors} tensors", r.reason) for r in rows]
    return aligned(cells)


def init_weights_from(path: Path, train_step: TrainStep, strict: bool, freeze_steps: int) -> None:
    """Load initial weights, print what was loaded, and freeze loaded groups while new ones train.

    They stay frozen for `freeze_steps` steps, at most half of the run.
    """
    rows = load_initial_weights(train_step.method, path, strict)
    train_step.restart_ema()
    fresh, loaded = fresh_and_trained(train_step.method, rows)
    print_line(f"weights of {path}\n{load_table(rows)}")
    steps = min(freeze_steps, train_step.schedule.steps // 2)
    if fresh and loaded and steps:
        train_step.frozen_until = dict.fromkeys(loaded, steps)
        print_line(
            f"the {' and '.join(loaded)} stay frozen for {steps} steps while the "
            f"{' and '.join(fresh)} train"
        )
