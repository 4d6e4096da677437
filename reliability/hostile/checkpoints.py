"""Change what a checkpoint or a bundle holds, with checksums that fit, and open it by every command.

The content is changed at a random place: a value of another type, missing, huge or nested, a tensor
without storage, sparse, quantised or of another size or type, options of another network.
"""

import copy
import hashlib
import io
import json
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reliability.command_in_child import Result, run_in_child
from reliability.hostile.workplace import COMMANDS, Workplace, make_workplace
from reliability.mutate_bytes import damaged

Draw = random.Random


def _nested() -> object:
    value: object = 0
    for _ in range(200):
        value = [value]
    return value


VALUES: tuple[Callable[[], object], ...] = (
    lambda: None, lambda: True, lambda: -1, lambda: 10**30, lambda: 1.5, lambda: float("nan"),
    lambda: float("inf"), lambda: "", lambda: "x" * 1_000_000, lambda: "../../x", lambda: b"bytes",
    lambda: [], lambda: {}, lambda: (1, 2), lambda: {"a": {"b": 1}}, _nested, lambda: {1: 2},
    lambda: torch.zeros(3), lambda: complex(1, 2), lambda: "a\nb\x1b[2J", lambda: [None] * 100_000,
)  # fmt: skip


def _quantised(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)


TENSORS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: torch.zeros(1).expand(60_000, 60_000),
    lambda x: torch.zeros(1).expand(x.shape) if x.ndim else torch.zeros(1).expand(10**9),
    lambda x: torch.zeros(10**9 // 4).to_sparse() if x.ndim < 1 else x.to_sparse(),
    lambda x: x.new_zeros(10**6).to_sparse(), lambda x: x.to("meta"), _quantised,
    lambda x: x.to(torch.complex64), lambda x: x.to(torch.int8), lambda x: x.to(torch.float8_e4m3fn),
    lambda x: x.double(), lambda x: x.bool(), lambda x: x * float("nan"), lambda x: x + float("inf"),
    lambda x: x.reshape(-1)[:0], lambda x: x[None], lambda x: x.reshape(-1),
    lambda x: x.mT if x.ndim > 1 else x, lambda x: torch.zeros(4_000_000),
)  # fmt: skip
OPTIONS: tuple[tuple[str, str], ...] = (
    ("channels: 4", "channels: 1000000"), ("blocks: 1", "blocks: 1000000"),
    ("layers: 1", "layers: 1000000"), ("channels: 4", "channels: -4"), ("name: cyclegan", "name: cut"),
    ("name: cyclegan", "name: ../x"), ("seed: ", "seed: 1e999"), ("batch_size: 1", "batch_size: .nan"),
    ("seed", "&a [*a, *a]\nseed"), ("data:", "data: !!python/object:os.system\nx:"),
    ("domains:", "domains: ${oc.env:HOME}\nx:"), ("run: ", "run: /etc/"),
    ("crop_size: 16", "crop_size: 10000000"),
    ("load_size: 20", "load_size: -1"), ("workers: 0", "workers: 100000"), ("{}", "{" * 2000),
    ("seed", "\tseed"), ("a", "\x00"),
)  # fmt: skip
"""Text in the options of the workplace's run -> text that takes its place."""


def changed_content(state: dict[str, Any], draw: Draw) -> tuple[str, dict[str, Any]]:
    """Return what was changed and a copy of a checkpoint's content with one change."""
    state = copy.copy(state)
    if draw.random() < 0.2:
        old, new = draw.choice(OPTIONS)
        state["options"] = state["options"].replace(old, new)
        return f"options {old} -> {new[:30]}", state
    path: list[str] = []
    at: Any = state
    while True:
        key: Any = draw.choice(list(at) if isinstance(at, dict) else range(len(at)))
        path.append(str(key))
        value = at[key]
        if isinstance(value, dict | list) and value and draw.random() < 0.85:
            at[key] = at = copy.copy(value)
            continue
        break
    if isinstance(value, Tensor) and draw.random() < 0.8:
        change = draw.randrange(len(TENSORS))
        at[key] = TENSORS[change](value)
        what = f"tensor {change}"
    elif isinstance(at, dict) and draw.random() < 0.25:
        del at[key]
        what = "missing"
    else:
        change = draw.randrange(len(VALUES))
        at[key] = VALUES[change]()
        what = f"value {change}"
    return f"{'/'.join(path)} {what}", state


def put_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Make this content the only checkpoint of a run, with a manifest that fits."""
    stream = io.BytesIO()
    torch.save(state, stream)
    folder = run / "checkpoints"
    manifest = json.loads((folder / "manifest.json").read_text())
    name = manifest["latest"]
    for other in folder.glob("*.pt"):
        other.unlink()
    (folder / name).write_bytes(stream.getvalue())
    manifest["files"] = {name: manifest["files"][name] | {
        "sha256": hashlib.sha256(stream.getvalue()).hexdigest(), "bytes": stream.tell(),
    }}  # fmt: skip
    manifest["best"] = name
    (folder / "manifest.json").write_text(json.dumps(manifest))


def change_bundle(bundle: Path, draw: Draw) -> str:
    """Change a value in a bundle's manifest or the bytes of its weights; return what was changed."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    if draw.random() < 0.5:
        weights = bundle / "model.safetensors"
        kind, content = damaged(weights.read_bytes(), (), draw)
        weights.write_bytes(content)
        for entry in manifest.get("files", {}).values():
            if isinstance(entry, dict) and "sha256" in entry:
                entry["sha256"] = hashlib.sha256(content).hexdigest()
        path.write_text(json.dumps(manifest))
        return f"weights {kind}"
    at, keys = manifest, []
    while True:
        key = draw.choice(list(at))
        keys.append(key)
        if isinstance(at[key], dict) and at[key] and draw.random() < 0.7:
            at = at[key]
            continue
        break
    plain: tuple[Any, ...] = (
        None,
        True,
        -1,
        10**30,
        1.5,
        "",
        "x" * 100_000,
        "../../x",
        [],
        {},
        [[[]]],
    )
    at[key] = draw.choice(plain)
    path.write_text(json.dumps(manifest))
    return f"manifest {'/'.join(keys)}"


def cases(root: Path, count: int, seed: int) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield each change and command: its name, and a function that returns what went wrong."""
    place, template = make_workplace(root / "place"), root / "template"
    place.root.rename(template)
    latest = json.loads((template / "run/checkpoints/manifest.json").read_text())["latest"]
    state = torch.load(template / "run" / "checkpoints" / latest, weights_only=True)
    for number in range(count or 300):
        draw = Draw(f"{seed}/{number}")
        command = draw.choice([*COMMANDS, "from weights", "bundle"])
        with warnings.catch_warnings():  # of torch, about sparse and quantized tensors
            warnings.simplefilter("ignore")
            what, content = changed_content(state, draw)

        def check(
            command: str = command, content: dict[str, Any] = content, draw: Draw = draw
        ) -> str:
            shutil.rmtree(place.root, ignore_errors=True)
            shutil.copytree(template, place.root)
            return _try(place, command, content, draw).problem

        yield f"{number}: {command}, {what}", check


def _try(place: Workplace, command: str, content: dict[str, Any], draw: Draw) -> Result:
    if command == "bundle":
        change_bundle(place.bundle, draw)
        words = [
            str(place.bundle),
            str(place.data / "testA"),
            str(place.root / "out2"),
            "runtime.device=cpu",
        ]
        return run_in_child(COMMANDS["translate"].main, words)
    put_checkpoint(place.run, content)
    if command == "from weights":
        words = [
            w if not w.startswith("run=") else f"run={place.root / 'new'}"
            for w in place.words("train")
        ]
        return run_in_child(COMMANDS["train"].main, [*words, f"init_from={place.run}"])
    if command == "export":
        shutil.rmtree(place.bundle)
    return place.start(command)
