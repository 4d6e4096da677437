"""Tables of a method's networks: layers, output shapes, parameters, multiply-accumulates."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from common.text_table import aligned
from models.method import Method, networks_of_group
from models.networks.vgg import FrozenConv3x3

MAX_DEPTH = 2  # levels of nested modules that get lines of their own


@dataclass
class Part:
    """One line of a table: a part of a network, or several equal ones in a row."""

    name: str
    kind: str
    shape: str  # of its first output
    parameters: int
    macs: int  # multiply-accumulate operations for one image
    repeats: int = 1  # equal parts in a row


@dataclass
class NetworkCall:
    """A network with the arguments of its first call in a step."""

    network: nn.Module
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)


def summary(title: str, method: Method, side: int) -> Iterator[str]:
    """Yield the lines of the tables of all networks, for one `side` x `side` image of each domain.

    A step runs on noise to record how each network is called; no weights change, no image is read.
    ValueError where the method cannot train on crops of this size.
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
        parts, feature_bytes = network_parts(call)
        is_trained = any(True for _ in call.network.parameters())
        parameters = count_weights(call.network)
        total += parameters if is_trained else 0
        rows = [["", "output", "parameters", "MACs"]]
        for part in parts:
            repeats = f" x {part.repeats}" if part.repeats > 1 else ""
            rows.append([
                f"  {part.name}  {part.kind}{repeats}", part.shape,
                f"{part.parameters * part.repeats:,}", _with_unit(part.macs * part.repeats),
            ])  # fmt: skip
        rows.append(
            ["  total", "", f"{parameters:,}", _with_unit(sum(p.macs * p.repeats for p in parts))]
        )
        role = ", frozen" if not is_trained else ""
        if id(call.network) in groups:
            role = f", optimizer group {groups[id(call.network)]}"
        yield f"\n{name}: {type(call.network).__name__}{role}"
        yield aligned(rows)
        adam = " (and twice that for Adam)" if is_trained else ""
        yield (
            f"  {parameters * 4 / 2**20:,.1f} MB of weights{adam}, "
            f"{feature_bytes / 2**20:,.1f} MB of features"
        )
    yield f"\n{total:,} parameters in total; plan=true measures time and memory of real steps"


def count_weights(network: nn.Module) -> int:
    """Return the number of a network's parameters, or of the frozen weights where it has none."""
    frozen = (part for part in network.modules() if isinstance(part, FrozenConv3x3))
    return sum(p.numel() for p in network.parameters()) or sum(
        buffer.numel() for part in frozen for buffer in part.buffers()
    )


def first_calls(method: Method, side: int) -> dict[str, NetworkCall]:
    """Return name -> first call in a step, for each network with weights, in the method's order."""
    calls: dict[str, NetworkCall] = {}
    handles = []
    for name, network in method.named_children():
        if count_weights(network):

            def record_call(
                module: nn.Module, arguments: tuple, keywords: dict, name: str = name
            ) -> None:
                if name not in calls:
                    calls[name] = NetworkCall(module, _detached(arguments), _detached(keywords))

            handles.append(network.register_forward_pre_hook(record_call, with_kwargs=True))
    batch = {
        domain: torch.rand(1, channels, side, side) * 2 - 1
        for domain, channels in method.channels.items()
    }
    for _ in method.updates(batch, 0):
        pass
    for handle in handles:
        handle.remove()
    order = [name for name, _ in method.named_children()]
    return {name: calls[name] for name in sorted(calls, key=order.index)}


@torch.no_grad()
def network_parts(call: NetworkCall) -> tuple[list[Part], int]:
    """Return a network's parts, equal neighbours merged, and bytes of features for one image."""
    # It imports triton, for which every command would wait.
    from torch.utils.flop_counter import FlopCounterMode

    shapes: dict[str, str] = {}
    feature_bytes = 0
    handles = []
    for name, module in call.network.named_modules():

        def record_shape(module: nn.Module, _: Any, output: Any, name: str = name) -> None:
            nonlocal feature_bytes
            tensor = output[0] if isinstance(output, list | tuple) and output else output
            if isinstance(tensor, Tensor):
                shapes.setdefault(name, "x".join(map(str, tensor.shape[1:])))
                if not any(True for _ in module.children()):
                    feature_bytes += tensor.numel() * tensor.element_size()

        handles.append(module.register_forward_hook(record_shape))
    with FlopCounterMode(display=False) as counter:
        call.network(*call.arguments, **call.keywords)
    for handle in handles:
        handle.remove()
    images = _batch_size(call.arguments)  # several where batches are concatenated
    flops_by_module = counter.get_flop_counts()
    root = type(call.network).__name__
    parts: list[Part] = []
    for name, module in _table_parts(call.network):
        flops = sum(flops_by_module.get(f"{root}.{name}" if name else root, {}).values())
        part = Part(
            name or root, type(module).__name__, shapes.get(name, ""),
            count_weights(module), flops // 2 // images,
        )  # fmt: skip
        last = parts[-1] if parts else None
        if last and (last.kind, last.shape, last.parameters, last.macs) == (
            part.kind, part.shape, part.parameters, part.macs,
        ):  # fmt: skip
            last.repeats += 1
        else:
            parts.append(part)
    return parts, feature_bytes // images


def _table_parts(
    network: nn.Module, prefix: str = "", depth: int = MAX_DEPTH
) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of each line of the table; containers yield their children."""
    children = list(network.named_children())
    if not children or depth == 0:
        yield prefix, network
        return
    for name, child in children:
        is_container = isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        full_name = f"{prefix}.{name}" if prefix else name
        yield from _table_parts(child, full_name, depth - 1 if is_container else 0)


def _batch_size(value: Any) -> int:
    """Return the batch size of the first tensor among nested arguments; 0 without a tensor."""
    if isinstance(value, Tensor):
        return len(value)
    return (
        next((n for part in value if (n := _batch_size(part))), 0)
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


def _with_unit(number: int) -> str:
    """Return a large number with a unit prefix, such as 12.3 G."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
