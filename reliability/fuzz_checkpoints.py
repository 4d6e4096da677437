"""Damaged and hostile checkpoint files: equal content or one line, never code, never much memory."""

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
from reliability.mutate import damaged

MARKER = Path("marker")  # in the folder that the fuzzer works in: what hostile files try to make
TOUCH = f"open({MARKER.name!r}, 'w').close()"


class Call:
    """Something whose pickle calls a function by its dotted name."""

    def __init__(self, name: str, *arguments: object) -> None:
        self.name, self.arguments = name, arguments

    def pickled(self) -> bytes:
        """Return the pickle, written by hand: the function named need not be imported here."""
        module, _, attribute = self.name.rpartition(".")
        arguments = pickle.dumps(self.arguments, protocol=2)[2:-1]
        return b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + arguments + b"R."


@functools.cache
def sound() -> bytes:
    """Return a tiny real checkpoint: networks, histories, one optimizer's moments, an average."""
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
    return saved(state)


def saved(state: object, **options: Any) -> bytes:
    """Return what torch.save writes."""
    stream = io.BytesIO()
    torch.save(state, stream, **options)
    return stream.getvalue()


def records(content: bytes) -> dict[str, bytes]:
    """Return the records of a checkpoint by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file of records."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def with_pickle(content: bytes) -> bytes:
    """Return the sound checkpoint with another pickle in it."""
    return zipped({
        name: content if name.endswith("data.pkl") else record
        for name, record in records(sound()).items()
    })  # fmt: skip


def bomb() -> bytes:
    """Return 64 MB of zeros in a file of 66 KB: its records are deflated."""
    zeros = saved({"format": FORMAT, "x": torch.zeros(16_000_000)})
    return zipped(records(zeros), zipfile.ZIP_DEFLATED)


def overlapping() -> bytes:
    """Return a zip file whose directory names one record a thousand times."""
    content = zipped({"archive/data.pkl": b"\0" * 60_000})
    end = content.rfind(b"PK\x05\x06")
    start = struct.unpack("<I", content[end + 16 : end + 20])[0]
    entries = content[start:end] * 1000
    counts = struct.pack("<HHII", 1000, 1000, len(entries), start)
    return content[:start] + entries + content[end : end + 8] + counts + content[end + 20 :]


def claimed() -> bytes:
    """Return a file whose tensor claims 10^12 numbers."""
    content = saved({"format": FORMAT, "x": torch.zeros(3)})
    found = records(content)
    claims = {
        name: record.replace(b"K\x03", b"\x8a\x06" + (10**12).to_bytes(6, "little"))
        for name, record in found.items()
    }
    return zipped(claims)


def legacy_tar() -> bytes:
    """Return the tar file that torch wrote before 2018, with a pickle that runs code."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = Call("builtins.exec", TOUCH).pickled()
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
    """Return the records of a .pt2 archive, its weight marked as a pickle that runs code."""
    weight = Call("builtins.exec", TOUCH).pickled()
    config = b'{"config": {"w": {"path_name": "weight_0", "is_param": true, "use_pickle": true}}}'
    return zipped({
        "m/archive_format": b"pt2", "m/.data/version": b"6\n", "m/version": b"0\n", "m/byteorder": b"little",
        "m/models/model.json": b"{}", "m/data/weights/model_weights_config.json": config,
        "m/data/weights/weight_0": weight, "m/data.pkl": weight,
    })  # fmt: skip


HOSTILE: dict[str, Callable[[], bytes]] = {
    "os.system": lambda: with_pickle(Call("os.system", f"touch {MARKER}").pickled()),
    "exec": lambda: with_pickle(Call("builtins.exec", TOUCH).pickled()),
    "eval": lambda: Call("builtins.eval", TOUCH).pickled(),
    "legacy pickle": lambda: saved({"format": FORMAT, "x": nn.Linear(2, 2)},
    _use_new_zipfile_serialization=False),
    "nn.Module": lambda: saved({"format": FORMAT, "x": nn.Linear(2, 2)}),
    "DictConfig": lambda: with_pickle(Call("omegaconf.DictConfig", {"format": FORMAT}).pickled()),
    "another protocol": lambda: with_pickle(b"\x80\x74}."),
    "legacy tar": legacy_tar,
    "TorchScript": torchscript,
    "pt2": pt2,
    "bomb": bomb,
    "overlapping records": overlapping,
    "10^12 numbers": claimed,
    "10^6 keys": lambda: saved({"format": FORMAT, "x": dict.fromkeys(range(1_000_000))}),
    "a list": lambda: saved([1, 2]),
    "another format": lambda: saved({"format": FORMAT + 1}),
    "foreign zip": lambda: zipped({"readme.txt": b"hello"}),
    "web page": lambda: b"<html><body>404 not found</body></html>",
    "empty": lambda: b"",
}  # fmt: skip


def cases(count: int, seed: int) -> Iterator[Case]:
    """Yield every hostile file, then damaged ones; every fifth keeps the zip file whole."""
    content = sound()
    yield Case("sound.pt", content)
    for name, make in HOSTILE.items():
        yield Case(f"hostile_{name.replace(' ', '_').replace('^', '')}.pt", make())
    members = records(content)
    for number in range(count - 1 - len(HOSTILE)):
        draw = random.Random(f"checkpoints/{seed}/{number}")
        if number % 5:
            done, changed = damaged(content, (content,), draw)
            yield Case(f"damaged_{done}.pt", changed)
        else:
            yield rewritten(members, draw)


def rewritten(members: dict[str, bytes], draw: random.Random) -> Case:
    """Return a zip file that is sound as such: deflated, a record damaged, missing, or in another's place."""
    changed, names = dict(members), list(members)
    name = draw.choice((*names, *[x for x in names if x.endswith("data.pkl")] * len(names)))
    kind = draw.choice(("deflated", "record", "record", "record", "missing", "exchanged"))
    if kind == "deflated":
        return Case("same_deflated.pt", zipped(changed, zipfile.ZIP_DEFLATED))
    if kind == "record" and members[name]:
        changed[name] = damaged(members[name], list(members.values()), draw)[1]
    elif kind == "exchanged":
        changed[name] = members[draw.choice(names)]
    else:
        del changed[name]
    return Case(f"rewritten_{kind}.pt", zipped(changed))


def judge(path: Path) -> str:
    """Load the file alone, and by the checksum of the sound one: equal content, or one line.

    A file that somebody rewrote with care may hold other plain values, but no code may run.
    """
    original = sound()
    outcome = "refused"
    for sha256 in (None, hashlib.sha256(original).hexdigest()):
        try:
            state = load_checkpoint(path, sha256)
        except UserError as error:
            text = str(error)
            assert path.name in text and "\n" not in text, f"not one line that names it: {text}"
            assert "weights_only" not in text, f"advice that runs code: {text}"
        else:
            if sha256 or not path.name[6:].startswith("rewritten"):
                assert same(state, reference()), "loaded, and its content is another"
            outcome = "loaded equal" if same(state, reference()) else "loaded as rewritten"
        assert not MARKER.exists(), "code was run"
    return outcome


@functools.cache
def reference() -> dict[str, Any]:
    """Return the content of the sound checkpoint."""
    return torch.load(io.BytesIO(sound()), map_location="cpu", weights_only=True)


def same(one: Any, two: Any) -> bool:
    """Say whether two states are equal, tensors bit by bit."""
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, torch.Tensor):
        return one.shape == two.shape and one.dtype == two.dtype and torch.equal(one, two)
    return one == two
