"""Fuzz checkpoints: a damaged or hostile file loads with equal content or is refused in one line.

No file may run code or take much memory.
"""

import functools
import hashlib
import io
import pickle
import random
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import UserError
from engine.checkpoint import FORMAT, load_checkpoint
from models.methods.cyclegan import CycleGAN
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.generator_config import GeneratorConfig
from reliability.fuzz_harness import Case
from reliability.mutate_bytes import damaged

MARKER = Path("marker")  # a file in the current folder that hostile checkpoints try to create
TOUCH = f"open({MARKER.name!r}, 'w').close()"


def pickled_call(name: str, *arguments: object) -> bytes:
    """Return a pickle that calls a function by its dotted name; it need not be imported here."""
    module, _, attribute = name.rpartition(".")
    pickled_arguments = pickle.dumps(arguments, protocol=2)[2:-1]
    return b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + pickled_arguments + b"R."


@functools.cache
def valid_checkpoint() -> bytes:
    """Return a tiny real checkpoint with networks, image pools, Adam moments and an EMA."""
    torch.manual_seed(0)
    config = CycleGAN.Config(
        generator=GeneratorConfig(channels=2, blocks=1),
        discriminator=PatchDiscriminator.Config(channels=2, layers=1),
    )
    method = CycleGAN(config, {"a": 3, "b": 3})
    optimizer = torch.optim.Adam(method.parameters())
    for parameter in method.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = {
        "format": FORMAT, "step": 3, "seconds": 1.5, "method": method.state_dict(),
        "optimizers": {"all": optimizer.state_dict()}, "ema": method.translators().state_dict(),
        "options": "seed: 0\n",
    }  # fmt: skip
    return serialized(state)


def serialized(state: object, **options: Any) -> bytes:
    """Return the bytes that torch.save writes."""
    stream = io.BytesIO()
    torch.save(state, stream, **options)
    return stream.getvalue()


def read_records(content: bytes) -> dict[str, bytes]:
    """Return name -> content of every record in a checkpoint."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file of these records."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def checkpoint_with_pickle(content: bytes) -> bytes:
    """Return the valid checkpoint with this pickle in place of its own."""
    return zip_archive({
        name: content if name.endswith("data.pkl") else record
        for name, record in read_records(valid_checkpoint()).items()
    })  # fmt: skip


def checkpoint_that_calls(name: str, *arguments: object) -> bytes:
    """Return the valid checkpoint with a pickle that calls a function."""
    return checkpoint_with_pickle(pickled_call(name, *arguments))


def zip_bomb() -> bytes:
    """Return a checkpoint of 66 KB whose deflated records are 64 MB of zeros."""
    zeros = serialized({"format": FORMAT, "x": torch.zeros(16_000_000)})
    return zip_archive(read_records(zeros), zipfile.ZIP_DEFLATED)


def overlapping_records() -> bytes:
    """Return a zip file whose directory names one record a thousand times."""
    content = zip_archive({"archive/data.pkl": b"\0" * 60_000})
    end = content.rfind(b"PK\x05\x06")
    start = struct.unpack("<I", content[end + 16 : end + 20])[0]
    entries = content[start:end] * 1000
    counts = struct.pack("<HHII", 1000, 1000, len(entries), start)
    return content[:start] + entries + content[end : end + 8] + counts + content[end + 20 :]


def oversized_tensor() -> bytes:
    """Return a file whose tensor claims to have 10^12 elements."""
    content = serialized({"format": FORMAT, "x": torch.zeros(3)})
    records = {
        name: record.replace(b"K\x03", b"\x8a\x06" + (10**12).to_bytes(6, "little"))
        for name, record in read_records(content).items()
    }
    return zip_archive(records)


def legacy_tar() -> bytes:
    """Return a tar file as torch wrote it before 2018, with a pickle that runs code."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickled_call("builtins.exec", TOUCH)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def torchscript() -> bytes:
    """Return a TorchScript module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = io.BytesIO()
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), stream)
    return stream.getvalue()


def pt2() -> bytes:
    """Return a .pt2 archive whose weight is declared as a pickle, and the pickle runs code."""
    weight = pickled_call("builtins.exec", TOUCH)
    config = b'{"config": {"w": {"path_name": "weight_0", "is_param": true, "use_pickle": true}}}'
    return zip_archive({
        "m/archive_format": b"pt2", "m/.data/version": b"6\n", "m/version": b"0\n",
        "m/byteorder": b"little", "m/models/model.json": b"{}",
        "m/data/weights/model_weights_config.json": config, "m/data/weights/weight_0": weight,
        "m/data.pkl": weight,
    })  # fmt: skip


HOSTILE: dict[str, Callable[[], bytes]] = {
    "os.system": lambda: checkpoint_that_calls("os.system", f"touch {MARKER}"),
    "exec": lambda: checkpoint_that_calls("builtins.exec", TOUCH),
    "eval": lambda: pickled_call("builtins.eval", TOUCH),
    "legacy pickle": lambda: serialized(
        {"format": FORMAT, "x": nn.Linear(2, 2)}, _use_new_zipfile_serialization=False
    ),
    "nn.Module": lambda: serialized({"format": FORMAT, "x": nn.Linear(2, 2)}),
    "DictConfig": lambda: checkpoint_that_calls("omegaconf.DictConfig", {"format": FORMAT}),
    "another protocol": lambda: checkpoint_with_pickle(b"\x80\x74}."),
    "legacy tar": legacy_tar,
    "TorchScript": torchscript,
    "pt2": pt2,
    "bomb": zip_bomb,
    "overlapping records": overlapping_records,
    "10^12 numbers": oversized_tensor,
    "10^6 keys": lambda: serialized({"format": FORMAT, "x": dict.fromkeys(range(1_000_000))}),
    "a list": lambda: serialized([1, 2]),
    "another format": lambda: serialized({"format": FORMAT + 1}),
    "unrelated zip": lambda: zip_archive({"readme.txt": b"hello"}),
    "web page": lambda: b"<html><body>404 not found</body></html>",
    "empty": lambda: b"",
}  # fmt: skip


def cases(count: int, seed: int) -> Iterator[Case]:
    """Yield the valid file, the hostile ones, then damaged ones, every fifth a valid zip file."""
    content = valid_checkpoint()
    yield Case("valid.pt", content)
    for name, make in HOSTILE.items():
        yield Case(f"hostile_{name.replace(' ', '_').replace('^', '')}.pt", make())
    members = read_records(content)
    for number in range(count - 1 - len(HOSTILE)):
        draw = random.Random(f"checkpoints/{seed}/{number}")
        if number % 5:
            kind, changed = damaged(content, (content,), draw)
            yield Case(f"damaged_{kind}.pt", changed)
        else:
            yield rewritten(members, draw)


def rewritten(members: dict[str, bytes], draw: random.Random) -> Case:
    """Return a valid zip file whose records are deflated, damaged, missing or exchanged."""
    changed, names = dict(members), list(members)
    name = draw.choice((*names, *[x for x in names if x.endswith("data.pkl")] * len(names)))
    kind = draw.choice(("deflated", "record", "record", "record", "missing", "exchanged"))
    if kind == "deflated":
        return Case("same_deflated.pt", zip_archive(changed, zipfile.ZIP_DEFLATED))
    if kind == "record" and members[name]:
        changed[name] = damaged(members[name], list(members.values()), draw)[1]
    elif kind == "exchanged":
        changed[name] = members[draw.choice(names)]
    else:
        del changed[name]
    return Case(f"rewritten_{kind}.pt", zip_archive(changed))


def check(path: Path) -> str:
    """Load a file without and with the checksum of the valid one; return the name of the outcome.

    Allowed are equal content and a UserError in one line. Without the checksum, a rewritten zip
    file may also load with other plain values. No code may run.
    """
    valid = valid_checkpoint()
    outcome = "refused"
    for sha256 in (None, hashlib.sha256(valid).hexdigest()):
        try:
            state = load_checkpoint(path, sha256)
        except UserError as error:
            text = str(error)
            one_line = path.name in text and "\n" not in text
            assert one_line, f"the error is not one line that names the file: {text}"
            assert "weights_only" not in text, f"the error recommends running code: {text}"
        else:
            equal = equal_states(state, valid_state())
            if sha256 or not path.name[6:].startswith("rewritten"):
                assert equal, "the file was loaded with different content"
            outcome = "loaded equal" if equal else "loaded as rewritten"
        assert not MARKER.exists(), "code was run"
    return outcome


@functools.cache
def valid_state() -> dict[str, Any]:
    """Return the content of the valid checkpoint."""
    return torch.load(io.BytesIO(valid_checkpoint()), map_location="cpu", weights_only=True)


def equal_states(one: Any, two: Any) -> bool:
    """Return whether two states are equal, tensors bit by bit."""
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return list(one) == list(two) and all(equal_states(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(equal_states, one, two))
    if isinstance(one, torch.Tensor):
        return one.shape == two.shape and one.dtype == two.dtype and torch.equal(one, two)
    return one == two
