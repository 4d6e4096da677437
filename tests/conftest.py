"""Fixtures and helpers of the tests: tiny images, methods and runs, and commands run in-process."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import Interrupted, RunError, UserError, one_line
from models import methods
from models.method import Method
from tests.wandb_server import serving

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # pictures and checkpoints that are not part of the repository
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def shrink(name: str) -> Method.Config:
    """Return a toy-sized configuration of any method: every network narrow and shallow."""
    return _shrunk(methods.find(name).Config())


# What sizes are called in the options of methods and networks, and how small they can be; features
# of a published network are random ones here, which need no file.
SMALLEST = {
    "channels": 4, "blocks": 1, "layers": 1, "style_width": 4, "size": 16, "steps": 2, "weights": "random",
    "levels": 2, "embed_dim": 8, "num_heads": 2, "num_downs": 3,
}  # fmt: skip


def _shrunk(config: Any) -> Any:
    changes: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            changes[field.name] = _shrunk(value)
        elif field.name in SMALLEST:
            changes[field.name] = SMALLEST[field.name]
    return replace(config, **changes)


TINY = [
    "method.generator.channels=4", "method.generator.blocks=1", "method.discriminator.channels=4",
    "method.discriminator.layers=1", "data.load_size=20", "data.crop_size=16", "data.workers=0",
    "log.wandb=disabled", "runtime.device=cpu", "validation_images=2", "log.previews=1",
]  # fmt: skip


def write_images(
    folder: Path, count: int, size: tuple[int, int] = (24, 20), first: int = 0
) -> None:
    """Write `count` different RGB pictures of (width, height) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        pixels = random.integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size, 2).save(folder / f"{number:03d}.png")


def picture(path: Path) -> Image.Image:
    """Return a picture with its pixels loaded and its file closed."""
    with Image.open(path) as image:
        image.load()
    return image


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """A data set of 7 and 5 training images and 3 and 2 held-out ones."""
    root = tmp_path_factory.mktemp("photos")
    for name, count, first in (
        ("trainA", 7, 0),
        ("trainB", 5, 50),
        ("testA", 3, 80),
        ("testB", 2, 90),
    ):
        write_images(root / name, count, first=first)
    return root


def call(command, *words: object) -> tuple[int, str]:
    """Run a command's main in this process; return its exit code and its line of error."""
    try:
        return command.main([str(word) for word in words]) or 0, ""
    except UserError as error:
        return 2, one_line(error)
    except RunError as error:
        return error.exit_code, one_line(error)
    except Interrupted as stop:
        return stop.exit_code, ""


@pytest.fixture(scope="session")
def trained(photos, tmp_path_factory) -> Path:
    """A CycleGAN run of eight steps with tiny networks."""
    import train

    run = tmp_path_factory.mktemp("runs") / "tiny"
    code, error = call(
        train, "cyclegan", f"data.root={photos}", f"run={run}", "duration=8 steps", "checkpoint_every=4",
        "log.every=2", "log.previews_every=4", "ema_half_life=4", *TINY,
    )  # fmt: skip
    assert code == 0, error
    return run


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A stand-in for the W&B server, to which the wandb library connects with a key."""
    import wandb

    wandb.teardown()  # it unsets the address of its service, which must not be restored later
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with serving() as found:
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        wandb.teardown()  # the library reads the environment only once in a process
        yield found
        wandb.teardown()


def written() -> None:
    """Wait until wandb's service has written an offline run, a moment after `finish` returns."""
    import wandb

    wandb.teardown()


def assert_same(one, two):
    """Compare two checkpoints' contents leaf by leaf, bit by bit."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one.keys() - {"seconds", "options"}:
            assert_same(one[key], two[key])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, list):
        for x, y in zip(one, two, strict=True):
            assert_same(x, y)
    else:
        assert one == two


PYTHON = sys.executable


def refusal(command, *words: object) -> UserError:
    """Run a command's main, which must raise UserError, and return the error."""
    with pytest.raises(UserError) as caught:
        command.main([str(word) for word in words])
    return caught.value


@contextmanager
def raises_user_error(option: str = "", path: object = "") -> Iterator[None]:
    """Expect a UserError that names this option and this path, in one line."""
    with pytest.raises(UserError) as caught:
        yield
    error = caught.value
    assert (error.option, error.path) == (option or error.option, str(path) or error.path), error
    assert "\n" not in str(error)
