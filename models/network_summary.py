"""Every network of a method as a table: what it is made of, how large, how much work."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from common.text_table import aligned
from models.method import Method, networks_of_group
from models.networks.vgg import FrozenConv3x3

DEPTH = 2  # a network's parts, and theirs


@dataclass
class Part:
    """One line of a table."""

    name: str
    kind: str
    shape: str  # of its first output
    parameters: int
    macs: int  # multiplications with an addition, of one image
    same: int = 1  # how many such follow each other


@dataclass
class _Call:
    """The first time that a step called a network."""

    network: nn.Module
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)


def summary(title: str, method: Method, side: int) -> Iterator[str]:
    """Yield the tables of all networks of a method, for one image of `side` x `side` pixels of each domain.

    A step is played once on noise to see who calls whom with what; nothing learns, no image is read.
    """
    method.check_crop_size(side, side)
    yield f"{title}: one image of {side}x{side} pixels of each domain, in float32"
    groups = {
        id(net): name
        for name, group in method.optimizer_groups().items()
        for net in networks_of_group(group)
    }
    total = 0
    for name, call in first_calls(method, side).items():
        parts, activations = parts_of(call)
        learns = any(True for _ in call.network.parameters())
        parameters = weights_of(call.network)
        total += parameters if learns else 0
        rows = [["", "output", "parameters", "MACs"]]
        rows += [
            [f"  {part.name}  {part.kind}{f' x {part.same}' if part.same > 1 else ''}", part.shape,
             f"{part.parameters * part.same:,}", _short(part.macs * part.same)]
            for part in parts
        ]  # fmt: skip
        rows.append(
            ["  in all", "", f"{parameters:,}", _short(sum(p.macs * p.same for p in parts))]
        )
        role = ", frozen" if not learns else ""
        if id(call.network) in groups:
            role = f", optimizer group {groups[id(call.network)]}"
        yield f"\n{name}: {type(call.network).__name__}{role}"
        yield aligned(rows)
        adam = " (and twice that for Adam)" if learns else ""
        yield (
            f"  {parameters * 4 / 2**20:,.1f} MB of weights{adam}, {activations / 2**20:,.1f} MB of features"
        )
    yield f"\n{total:,} parameters in all; plan=true measures time and memory of real steps"


def weights_of(network: nn.Module) -> int:
    """Return how many numbers a network has learnt, or of a frozen one how many it consists of."""
    frozen = (part for part in network.modules() if isinstance(part, FrozenConv3x3))
    return sum(p.numel() for p in network.parameters()) or sum(
        buffer.numel() for part in frozen for buffer in part.buffers()
    )


def first_calls(method: Method, side: int) -> dict[str, _Call]:
    """Return name -> how a step first called each network that has weights, in the method's order."""
    found: dict[str, _Call] = {}
    handles = []
    for name, network in method.named_children():
        if weights_of(network):

            def note(module: nn.Module, arguments: tuple, keywords: dict, name: str = name) -> None:
                if name not in found:
                    found[name] = _Call(module, _detached(arguments), _detached(keywords))

            handles.append(network.register_forward_pre_hook(note, with_kwargs=True))
    batch = {
        domain: torch.rand(1, channels, side, side) * 2 - 1
        for domain, channels in method.channels.items()
    }
    for _ in method.updates(batch, 0):
        pass
    for handle in handles:
        handle.remove()
    order = [name for name, _ in method.named_children()]
    return {name: found[name] for name in sorted(found, key=order.index)}


@torch.no_grad()
def parts_of(call: _Call) -> tuple[list[Part], int]:
    """Return a network's parts, equal neighbours as one, and the bytes that its layers put out an image."""
    shapes: dict[str, str] = {}
    features = 0
    handles = []
    for name, module in call.network.named_modules():

        def note(module: nn.Module, _: Any, output: Any, name: str = name) -> None:
            nonlocal features
            tensor = output[0] if isinstance(output, list | tuple) and output else output
            if isinstance(tensor, Tensor):
                shapes.setdefault(name, "x".join(map(str, tensor.shape[1:])))
                if not any(True for _ in module.children()):
                    features += tensor.numel() * tensor.element_size()

        handles.append(module.register_forward_hook(note))
    with FlopCounterMode(display=False) as counter:
        call.network(*call.arguments, **call.keywords)
    for handle in handles:
        handle.remove()
    images = _images(call.arguments)  # often several batches at once
    work = counter.get_flop_counts()
    root = type(call.network).__name__
    parts: list[Part] = []
    for name, module in _lines(call.network):
        flops = sum(work.get(f"{root}.{name}" if name else root, {}).values())
        part = Part(
            name or root, type(module).__name__, shapes.get(name, ""),
            weights_of(module), flops // 2 // images,
        )  # fmt: skip
        last = parts[-1] if parts else None
        if last and (last.kind, last.shape, last.parameters, last.macs) == (
            part.kind, part.shape, part.parameters, part.macs,
        ):  # fmt: skip
            last.same += 1
        else:
            parts.append(part)
    return parts, features // images


def _lines(
    network: nn.Module, prefix: str = "", depth: int = DEPTH
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of a network that get a line: containers give way to what is in them."""
    children = list(network.named_children())
    if not children or depth == 0:
        yield prefix, network
        return
    for name, child in children:
        inside = isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        full = f"{prefix}.{name}" if prefix else name
        yield from _lines(child, full, depth - 1 if inside else 0)


def _images(value: Any) -> int:
    """Return how many images the first tensor among nested arguments is of."""
    if isinstance(value, Tensor):
        return len(value)
    return (
        next((n for part in value if (n := _images(part))), 0)
        if isinstance(value, list | tuple)
        else 0
    )


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, list | tuple):
        return type(value)(_detached(part) for part in value)
    if isinstance(value, dict):
        return {name: _detached(part) for name, part in value.items()}
    return value


def _short(number: int) -> str:
    """Return a large number as a person writes it: 12.3 G."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
