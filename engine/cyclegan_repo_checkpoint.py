"""Networks of pytorch-CycleGAN-and-pix2pix or CUT: *_net_*.pth files, recognised by their keys."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from common.errors import UserError
from engine.checkpoint import verify_checksums
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator

KEY = re.compile(r"(?:module\.)?model\.(\d+)\.(?:conv_block\.(\d+)\.)?(weight|bias)")
Layer = tuple[Tensor, Tensor | None]
"""Weight and bias."""
Network = TypeVar("Network", ResnetGenerator, PatchDiscriminator)
NOT_LEARNT = ("running_mean", "running_var", "num_batches_tracked", "filt")


def read_reference(path: Path) -> ResnetGenerator:
    """Return the generator in a .pth file of the reference, in evaluation mode.

    Any width, any number of blocks, blocks with and without a dropout layer, old (not zipped) and new
    files, with antialiased sampling (CUT) or without; running statistics that instance norms of 2018
    saved are dropped. Only tensors are loaded, nothing is run. UserError says in one line why a file
    cannot be used.
    """
    return generator_of(_state(path), path)


def read_discriminator(path: Path) -> PatchDiscriminator:
    """Return the patch discriminator in a .pth file of the reference; UserError where it is none."""
    state = _state(path)
    layers = ordered_layers(state, path)
    weights = [weight for weight, _ in layers]
    if len(weights) < 3 or any(w.ndim != 4 or w.shape[2:] != (4, 4) for w in weights):
        raise UserError(f"{path}: no patch discriminator (the reference's netD=basic or n_layers)")
    config = PatchDiscriminator.Config(
        channels=len(weights[0]), layers=len(weights) - 2,
        antialiased=any(str(key).endswith(".filt") for key in state),
    )  # fmt: skip
    return _filled(PatchDiscriminator(weights[0].shape[1], config), layers, path)


def _state(path: Path) -> dict[str, Any]:
    if zipfile.is_zipfile(path):  # the old kind is no archive, and cannot unpack to more than it is
        verify_checksums(path)
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
    return state


def _filled(network: Network, layers: Sequence[Layer], path: Path) -> Network:
    """Return a network with the weights of layers, in evaluation mode; UserError where shapes differ."""
    targets = list(network.parameters())
    sources = [tensor for layer in layers for tensor in layer if tensor is not None]
    if [p.shape for p in targets] != [tensor.shape for tensor in sources]:
        raise UserError(f"{path}: its layers have other shapes than a {type(network).__name__}'s")
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
    return network.eval().requires_grad_(False)


def generator_of(state: dict[str, Any], path: Path) -> ResnetGenerator:
    """Return the generator whose weights a reference's state dict holds; `path` is for errors."""
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
    blurs = sum(str(key).endswith(".filt") for key in state)
    if blurs not in (0, 4):
        raise UserError(f"{path}: antialiased in one half only, which this software does not have")
    config = GeneratorConfig(
        channels=len(weights[0]), blocks=in_blocks // 2, antialiased=blurs == 4
    )
    generator = ResnetGenerator(weights[0].shape[1], len(weights[-1]), config)
    return _filled(generator, layers, path)


def ordered_layers(state: dict[str, Any], path: Path) -> list[Layer]:
    """Return (weight, bias) of every layer, in the order in which they are applied."""
    found: dict[tuple[int, int], dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.rsplit(".", 1)[-1] in NOT_LEARNT:
            continue
        match = KEY.fullmatch(str(key))
        if match is None or not isinstance(value, Tensor):
            raise UserError(
                f"{path}: not a generator of the reference, nor a discriminator (it holds '{str(key)[:60]}')"
            )
        place = (int(match[1]), int(match[2] or 0))
        found.setdefault(place, {})[match[3]] = value
    if any("weight" not in layer for layer in found.values()):
        raise UserError(f"{path}: a layer without weights")
    return [(found[place]["weight"], found[place].get("bias")) for place in sorted(found)]


def direction_of_file(path: Path) -> tuple[str, str]:
    """Return source and target domain by the reference's names: G_A makes B of A, G_B A of B."""
    return ("b", "a") if path.stem.endswith("_B") else ("a", "b")
