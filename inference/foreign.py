"""Generators of pytorch-CycleGAN-and-pix2pix or CUT: *_net_G*.pth files, recognised by their keys."""

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.state import check_records
from errors import UserError
from models.networks.resnet_generator import ResnetGenerator

KEY = re.compile(r"(?:module\.)?model\.(\d+)\.(?:conv_block\.(\d+)\.)?(weight|bias)")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def read_reference(path: Path) -> ResnetGenerator:
    """Return the generator in a .pth file of the reference, in evaluation mode.

    Any width, any number of blocks, blocks with and without a dropout layer, old (not zipped) and new
    files; running statistics that instance norms of 2018 saved are dropped. Only tensors are loaded,
    nothing is run. UserError says in one line why a file cannot be used.
    """
    if zipfile.is_zipfile(path):  # the old kind is no archive, and cannot unpack to more than it is
        check_records(path)
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # as damage has it: EOFError, RuntimeError, UnpicklingError ...
        raise UserError(
            f"{path}: damaged, or no checkpoint ({type(error).__name__}); copy it again"
        ) from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds no weights")
    return generator_of(state, path)


def generator_of(state: dict[str, Any], path: Path) -> ResnetGenerator:
    """Return the generator whose weights a reference's state dict holds; `path` is for errors."""
    if any(key.endswith(".filt") for key in state):
        raise UserError(
            f"{path}: an antialiased generator (CUT's default), which this software does not have; "
            "train it with --no_antialias --no_antialias_up"
        )
    layers = ordered_layers(state, path)
    weights = [weight for weight, _ in layers]
    in_blocks = len(weights) - 6
    plausible = (
        in_blocks >= 0 and in_blocks % 2 == 0 and all(w.ndim == 4 for w in weights)
        and all(bias is not None for _, bias in layers)
        and weights[0].shape[2:] == (7, 7) and weights[-1].shape[2:] == (7, 7)
    )  # fmt: skip
    if not plausible:
        raise UserError(
            f"{path}: no ResNet generator with instance norm (the reference's netG=resnet_*blocks)"
        )
    config = ResnetGenerator.Config(channels=len(weights[0]), blocks=in_blocks // 2)
    generator = ResnetGenerator(weights[0].shape[1], len(weights[-1]), config)
    targets = list(generator.parameters())
    sources = [tensor for layer in layers for tensor in layer if tensor is not None]
    if [p.shape for p in targets] != [tensor.shape for tensor in sources]:
        raise UserError(f"{path}: its layers have other shapes than a ResNet generator's")
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
    return generator.eval().requires_grad_(False)


def ordered_layers(state: dict[str, Any], path: Path) -> list[tuple[Tensor, Tensor | None]]:
    """Return (weight, bias) of every layer, in the order in which they are applied."""
    found: dict[tuple[int, int], dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.rsplit(".", 1)[-1] in STATISTICS:
            continue
        match = KEY.fullmatch(str(key))
        if match is None or not isinstance(value, Tensor):
            raise UserError(
                f"{path}: not a generator of the reference (it holds '{str(key)[:60]}')"
            )
        place = (int(match[1]), int(match[2] or 0))
        found.setdefault(place, {})[match[3]] = value
    if any("weight" not in layer for layer in found.values()):
        raise UserError(f"{path}: a layer without weights")
    return [(found[place]["weight"], found[place].get("bias")) for place in sorted(found)]


def direction_of_file(path: Path) -> tuple[str, str]:
    """Return source and target domain by the reference's names: G_A makes B of A, G_B A of B."""
    return ("b", "a") if path.stem.endswith("_B") else ("a", "b")
