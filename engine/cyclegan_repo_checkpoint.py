"""Load networks that pytorch-CycleGAN-and-pix2pix or CUT saved, from their *_net_*.pth files.

The layout of a file is recognised by the keys of its state dict. "The reference" is either
repository.
"""

import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from common.errors import UserError
from engine.checkpoint import verify_checksums
from engine.checkpoint_content import check_tensors
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator

KEY = re.compile(r"(?:module\.)?model\.(\d+)\.(?:conv_block\.(\d+)\.)?(weight|bias)")
Layer = tuple[Tensor, Tensor | None]
"""Weight and bias."""
Network = TypeVar("Network", ResnetGenerator, PatchDiscriminator)
WRAPPERS = ("state_dict", "model_state_dict", "net", "netG", "generator", "params")
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "filt")  # filt: a blur's kernel


def read_reference(path: Path) -> ResnetGenerator:
    """Return the generator in a .pth file of the reference, in evaluation mode.

    Generators may have any width and any number of blocks, blocks with and without a dropout layer,
    and antialiased sampling (CUT) or not; files may be old (not zipped) or new. Running statistics
    that instance norms of 2018 saved are dropped. Only tensors are loaded, no code is run.
    UserError where the file cannot be used, in one line that names it and the reason.
    """
    return _generator_from(_load_state_dict(path), path)


def read_discriminator(path: Path) -> PatchDiscriminator:
    """Return the patch discriminator in a .pth file of the reference, in evaluation mode.

    UserError where the file holds anything else.
    """
    state = _load_state_dict(path)
    layers = _ordered_layers(state, path)
    weights = [weight for weight, _ in layers]
    if len(weights) < 3 or any(w.ndim != 4 or w.shape[2:] != (4, 4) for w in weights):
        raise UserError(
            f"{path}: not a patch discriminator (netD=basic or n_layers of the reference)",
            path=path,
        )
    config = PatchDiscriminator.Config(
        channels=len(weights[0]), layers=len(weights) - 2,
        antialiased=any(str(key).endswith(".filt") for key in state),
    )  # fmt: skip
    return _with_weights(PatchDiscriminator(weights[0].shape[1], config), layers, path)


def _load_state_dict(path: Path) -> dict[str, Any]:
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a file", path=path)
    # An old file is not an archive, and cannot unpack to more than its size.
    if zipfile.is_zipfile(path):
        verify_checksums(path)
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", path=path) from None
    except pickle.UnpicklingError as error:
        raise _not_weights(path, str(error)) from None
    except Exception as error:  # damage raises EOFError, RuntimeError and others
        raise UserError(
            f"{path}: damaged, or not a checkpoint ({type(error).__name__}); copy it again",
            path=path,
        ) from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds no weights (it is not a state dict)", path=path)
    check_tensors(state, path)
    return _unwrapped(state)


def _not_weights(path: Path, reason: str) -> UserError:
    """Return the error for a file that torch does not load as weights alone."""
    classes = re.findall(r"GLOBAL ([\w.]+)", reason)
    if not classes:
        return UserError(f"{path}: damaged, or not a checkpoint; copy it again", path=path)
    return UserError(
        f"{path}: a whole pickled object ({classes[0]}), which can run code when it is opened; save "
        "only its weights where it came from: torch.save(network.state_dict(), 'weights.pth')",
        path=path,
    )


def _unwrapped(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state dict in a dict that holds nothing else of use: {"state_dict": ...}."""
    inner = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), None)
    return state if inner is None else inner


def _with_weights(network: Network, layers: Sequence[Layer], path: Path) -> Network:
    """Copy weights into a network and set evaluation mode; UserError where shapes differ."""
    targets = list(network.parameters())
    sources = [tensor for layer in layers for tensor in layer if tensor is not None]
    if [p.shape for p in targets] != [tensor.shape for tensor in sources]:
        raise UserError(
            f"{path}: its layers have other shapes than a {type(network).__name__}'s", path=path
        )
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
    return network.eval().requires_grad_(False)


def _generator_from(state: dict[str, Any], path: Path) -> ResnetGenerator:
    """Return the generator whose weights are in a state dict; `path` is for errors."""
    layers = _ordered_layers(state, path)
    weights = [weight for weight, _ in layers]
    in_blocks = len(weights) - 6
    is_resnet = (
        in_blocks >= 0 and in_blocks % 2 == 0 and all(w.ndim == 4 for w in weights)
        and all(bias is not None for _, bias in layers)
        and weights[0].shape[2:] == (7, 7) and weights[-1].shape[2:] == (7, 7)
    )  # fmt: skip
    if not is_resnet:
        raise UserError(
            f"{path}: not a ResNet generator with instance norm "
            "(netG=resnet_*blocks of the reference)",
            path=path,
        )
    blurs = sum(str(key).endswith(".filt") for key in state)
    if blurs not in (0, 4):
        raise UserError(
            f"{path}: antialiased in one half only, which no generator here is", path=path
        )
    config = GeneratorConfig(
        channels=len(weights[0]), blocks=in_blocks // 2, antialiased=blurs == 4
    )
    generator = ResnetGenerator(weights[0].shape[1], len(weights[-1]), config)
    return _with_weights(generator, layers, path)


def _ordered_layers(state: dict[str, Any], path: Path) -> list[Layer]:
    """Return (weight, bias) of every layer, in the order in which they are applied."""
    layers: dict[tuple[int, int], dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.rsplit(".", 1)[-1] in BUFFERS:
            continue
        match = KEY.fullmatch(str(key))
        if match is None or not isinstance(value, Tensor):
            raise UserError(
                f"{path}: not a generator or discriminator of the reference "
                f"(it holds '{str(key)[:60]}')",
                path=path,
            )
        position = (int(match[1]), int(match[2] or 0))
        layers.setdefault(position, {})[match[3]] = value
    if any("weight" not in layer for layer in layers.values()):
        raise UserError(f"{path}: it holds a layer without weights", path=path)
    return [(layers[at]["weight"], layers[at].get("bias")) for at in sorted(layers)]


def direction_of_file(path: Path) -> tuple[str, str]:
    """Return (source, target) domain by the file name: G_A translates a to b, G_B b to a."""
    return ("b", "a") if path.stem.endswith("_B") else ("a", "b")
