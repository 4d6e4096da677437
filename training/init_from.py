"""Initialize networks from a run, a checkpoint, or .pth files of pytorch-CycleGAN-and-pix2pix."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from common.errors import UserError, as_user_error
from common.run_main import print_line
from common.text_table import aligned
from engine.checkpoint import Checkpoints, load_checkpoint, state_dict_mismatch
from engine.checkpoint_content import check_content, check_sizes
from engine.cyclegan_repo_checkpoint import read_discriminator, read_reference
from engine.train_step import TrainStep
from models import methods
from models.method import Method
from options.load import from_yaml

# Name in that repository -> ours. It names a discriminator after the generator that it trains: D_A
# scores the outputs of G_A, which are images of B. CUT has one of each.
REPO_NETWORKS = {
    "G_A": "generator_ab", "G_B": "generator_ba", "G": "generator_ab",
    "D_A": "discriminator_b", "D_B": "discriminator_a", "D": "discriminator_b",
}  # fmt: skip
NOT_THERE = "not there: fresh"


@dataclass(frozen=True)
class NetworkLoadResult:
    """How many tensors of a network were loaded, and the reason if not all were."""

    network: str
    loaded: int
    tensors: int
    reason: str = ""


def load_initial_weights(method: Method, path: Path, strict: bool) -> list[NetworkLoadResult]:
    """Load the weights at `path` into `method`; return what was loaded, a row for each network.

    `path` is a run folder, a checkpoint, one *_net_*.pth of pytorch-CycleGAN-and-pix2pix, or a
    folder of them. The EMA of the weights is preferred to the weights; image pools and optimizers
    are not loaded. UserError if nothing fits, or, if `strict`, if only a part of a network fits.
    """
    weights = read_weights(path)
    rows = []
    for name, network in method.named_children():
        if not (parameters := dict(network.named_parameters())):
            continue
        prefix = f"{name}."
        given = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        fitting = {
            key: x
            for key, x in given.items()
            if key in parameters and x.shape == parameters[key].shape
        }
        with torch.no_grad():
            for key, value in fitting.items():
                parameters[key].copy_(value)
            for key, buffer in network.named_buffers():
                if key in given and given[key].shape == buffer.shape:
                    buffer.copy_(given[key])
        reason = _mismatch(parameters, given)
        rows.append(NetworkLoadResult(name, len(fitting), len(parameters), reason))
    if not rows:
        raise UserError(
            "init_from: this method has no networks to train; remove the option", option="init_from"
        )
    if not any(row.loaded for row in rows):
        raise UserError(
            f"init_from={path}: none of its weights fit these networks ({rows[0].reason})",
            option="init_from",
            path=path,
        )
    partial = next((row for row in rows if row.reason and row.reason != NOT_THERE), None)
    if partial is not None and strict:
        raise UserError(
            f"init_from={path}: {partial.network} does not fit ({partial.reason}); "
            "init_strict=false loads what fits",
            option="init_from",
            path=path,
        )
    return rows


def _mismatch(parameters: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Return why not every parameter of a network can be loaded from `given`, or ""."""
    if not given:
        return NOT_THERE
    missing = [key for key in parameters if key not in given]
    other_shapes = [
        f"{key} is {_shape(given[key])}, not {_shape(x)}"
        for key, x in parameters.items()
        if key in given and given[key].shape != x.shape
    ]
    extra = [key for key in given if key not in parameters and given[key].ndim > 1]
    return "; ".join([
        *other_shapes[:2],
        *([f"{len(missing)} not there, such as {missing[0]}"] if missing else []),
        *([f"{len(extra)} more there, such as {extra[0]}"] if extra else []),
    ])  # fmt: skip


def _shape(x: Tensor) -> str:
    return "x".join(map(str, x.shape)) or "a number"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights at a path by their names in this project; UserError if there are none."""
    if path.suffix == ".pth":
        return _repo_weights([path])
    if path.is_dir() and (files := sorted(path.glob("*_net_*.pth"))):
        return _repo_weights(_latest_epoch(files))
    if path.is_dir():
        if not (path / "checkpoints").is_dir():
            raise UserError(
                f"init_from={path}: neither a run nor a folder of *_net_*.pth files",
                option="init_from",
                path=path,
            )
        return _checkpoint_weights(Checkpoints(path / "checkpoints").load_latest(), path)
    return _checkpoint_weights(load_checkpoint(path), path)


def _checkpoint_weights(state: dict, path: Path) -> dict[str, Tensor]:
    """Return the weights in a checkpoint of this project, the EMA instead where there is one."""
    check_content(state, path)
    options = from_yaml(state["options"], str(path))
    check_sizes(options.method, state["method"], path)
    check_sizes(options.data, state["method"], path, "data")
    try:
        method = methods.build(options.method, options.data.channels_of())
        if mismatch := state_dict_mismatch(method.state_dict(), state["method"]):
            raise UserError(f"{path}: its weights do not fit its options: {mismatch}", path=path)
        method.load_state_dict(state["method"])
        if state["ema"] is not None:
            ema = method.translators().state_dict()
            if mismatch := state_dict_mismatch(ema, state["ema"]):
                raise UserError(f"{path}: its EMA does not fit its options: {mismatch}", path=path)
            method.translators().load_state_dict(state["ema"])  # the generators of `method`
    except ValueError as error:
        raise as_user_error(error, path) from None
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"{path}: its weights do not fit its options ({type(error).__name__})", path=path
        ) from None
    return {name: x for name, x in method.state_dict().items() if isinstance(x, Tensor)}


def _repo_weights(files: list[Path]) -> dict[str, Tensor]:
    """Return the weights in *_net_*.pth files of pytorch-CycleGAN-and-pix2pix."""
    weights: dict[str, Tensor] = {}
    for file in files:
        kind = file.stem.rpartition("_net_")[2]
        if kind not in REPO_NETWORKS:
            continue  # CUT's patch sampler, which is trained within a few steps
        network: nn.Module = read_reference(file) if kind[0] == "G" else read_discriminator(file)
        weights |= {f"{REPO_NETWORKS[kind]}.{name}": x for name, x in network.state_dict().items()}
    if not weights:
        raise UserError(
            f"init_from={files[0]}: its name must end with _net_G_A.pth, _net_D_B.pth or similar",
            option="init_from",
            path=files[0],
        )
    return weights


def _latest_epoch(files: list[Path]) -> list[Path]:
    """Return the files of one epoch: `latest`, or the highest number."""
    epochs = {file.stem.partition("_net_")[0] for file in files}
    numbered = sorted((epoch for epoch in epochs if epoch.isdecimal()), key=int)
    chosen = "latest" if "latest" in epochs or not numbered else numbered[-1]
    return [file for file in files if file.stem.startswith(f"{chosen}_net_")]


def new_and_loaded_groups(
    method: Method, rows: list[NetworkLoadResult]
) -> tuple[list[str], list[str]]:
    """Return the optimizer groups that were not loaded completely, and those that were."""
    networks = {id(network): name for name, network in method.named_children()}
    complete = {row.network for row in rows if row.loaded == row.tensors}
    new, loaded = [], []
    for group, module in method.optimizer_groups().items():
        members = module if isinstance(module, nn.ModuleList) else [module]
        names = {networks.get(id(member), "") for member in members}
        (loaded if names <= complete else new).append(group)
    return new, loaded


def load_table(rows: list[NetworkLoadResult]) -> str:
    """Return what was loaded, as a text table."""
    cells = [("network", "loaded", "")]
    cells += [(r.network, f"{r.loaded} of {r.tensors} tensors", r.reason) for r in rows]
    return aligned(cells)


def init_weights_from(path: Path, train_step: TrainStep, strict: bool, freeze_steps: int) -> None:
    """Load initial weights, print what was loaded, and freeze loaded groups while new ones train.

    Loaded groups stay frozen for `freeze_steps` steps, at most half of the run.
    """
    rows = load_initial_weights(train_step.method, path, strict)
    train_step.restart_ema()
    new, loaded = new_and_loaded_groups(train_step.method, rows)
    for line in (f"weights of {path}", *load_table(rows).splitlines()):
        print_line(line)
    steps = min(freeze_steps, train_step.schedule.steps // 2)
    if new and loaded and steps:
        train_step.frozen_until = dict.fromkeys(loaded, steps)
        print_line(
            f"the {' and '.join(loaded)} stay frozen for {steps} steps while the "
            f"{' and '.join(new)} train"
        )
