"""Check what a checkpoint holds before anything is built from it or computed with it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError

MAX_DEPTH = 20  # of nested containers
MAX_NUMBER = 2**40  # steps or seconds
# Key of a checkpoint -> the types that it may have.
SCHEMA: dict[str, tuple[type, ...]] = {
    "step": (int,), "rollbacks": (int,), "seconds": (int, float), "options": (str,),
    "method": (dict,), "optimizers": (dict,), "ema": (dict, type(None)), "frozen_until": (dict,),
    "rank_states": (list,), "score_definition": (int,),
}  # fmt: skip
REQUIRED = ("step", "options", "method", "ema")
# Options that set how many layers a network has, or how wide they are.
SIZES = frozenset(
    ["channels", "blocks", "layers", "num_downs", "embed_dim", "num_heads", "scales", "levels",
     "style_width"]
)  # fmt: skip
SMALLEST_BOUND = 512  # of those options, for networks whose weights are not in a file


def check_content(state: Mapping[str, Any], path: Path) -> None:
    """Raise UserError where a checkpoint lacks a part, or one has another type or is a fake.

    `state` is what torch.load returned for `path`.
    """
    for name in REQUIRED:
        if name not in state:
            raise UserError(f"{path}: the checkpoint has no {name}; use another one", path=path)
    for name, kinds in SCHEMA.items():
        value = state.get(name, kinds[0]())
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UserError(
                f"{path}: {name} of the checkpoint is not {kinds[0].__name__}; use another one",
                path=path,
            )
    numbers = {name: state.get(name, 0) for name in ("step", "rollbacks", "seconds")}
    numbers |= {f"frozen_until.{name}": x for name, x in state.get("frozen_until", {}).items()}
    for name, number in numbers.items():
        if not isinstance(number, int | float) or not 0 <= number < MAX_NUMBER:
            raise UserError(
                f"{path}: {name} of the checkpoint is {str(number)[:40]}; use another one",
                path=path,
            )
    check_tensors(state, path)


def check_tensors(content: Any, path: Path) -> None:
    """Raise UserError for tensors that are not what their file holds.

    A tensor may claim any shape for a few bytes (strides of 0), or have a layout that no network of
    this software uses: sparse, quantized, without data.
    """
    for tensor in _tensors(content, path):
        is_plain = (
            tensor.layout == torch.strided
            and not tensor.is_quantized
            and tensor.device.type == "cpu"
        )
        if not is_plain:
            raise UserError(f"{path}: a tensor in it is sparse, quantized or empty", path=path)
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UserError(
                f"{path}: a tensor in it claims the shape {list(tensor.shape)}, for which the file "
                "has no data",
                path=path,
            )


def check_sizes(
    config: Any, weights: Mapping[str, Any], path: Path, prefix: str = "method"
) -> None:
    """Raise UserError for a network size, in the options, that the weights cannot belong to.

    Networks are built from the options before their weights are loaded: 10^6 blocks would take all
    memory. No network has more layers than its weights have names, or a wider layer than theirs.
    """
    shapes = [value.shape for value in weights.values() if isinstance(value, Tensor)]
    bound = max([SMALLEST_BOUND, len(weights), *(max(shape, default=0) for shape in shapes)])
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}.{field.name}"
        if dataclasses.is_dataclass(value):
            check_sizes(value, weights, path, name)
            continue
        largest = max(value, default=0) if isinstance(value, list) else value
        if field.name in SIZES and isinstance(largest, int) and largest > bound:
            raise UserError(
                f"{path}: {name}={largest} does not fit its weights; use another checkpoint",
                option=name, path=path,
            )  # fmt: skip


def optimizer_mismatch(state: Any, parameters: Sequence[Tensor]) -> str:
    """Return why the state of an optimizer does not belong to its parameters; "" where it does.

    torch checks the number of the parameters alone, and computes with whatever it is given.
    """
    entries = state["state"]
    for index, entry in entries.items():
        if not isinstance(index, int) or not 0 <= index < len(parameters):
            return f"it has a state for parameter {str(index)[:20]} of {len(parameters)}"
        for name, value in entry.items():
            is_number = isinstance(value, int | float)
            is_moment = isinstance(value, Tensor) and value.is_floating_point()
            fits = is_moment and value.shape in (parameters[index].shape, ())
            if not (is_number or fits):
                return f"{str(name)[:20]} of parameter {index} has another type or size"
    return ""


def wrong_types(expected: Mapping[str, Any], loaded: Mapping[str, Any]) -> set[str]:
    """Return the names of the weights whose numbers have another kind: integer, complex, 8 bits."""
    return {
        name
        for name, value in expected.items()
        if isinstance(value, Tensor)
        and isinstance(other := loaded.get(name), Tensor)
        and (
            value.is_floating_point() != other.is_floating_point()
            or value.is_complex() != other.is_complex()
            or (other.is_floating_point() and other.element_size() < 2)
        )
    }


def _tensors(content: Any, path: Path) -> Iterator[Tensor]:
    """Yield all tensors in nested containers; UserError where they are nested too deeply."""
    pending = [(content, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise UserError(f"{path}: its content is nested too deeply", path=path)
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            pending += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, list | tuple | set):
            pending += [(part, depth + 1) for part in value]
