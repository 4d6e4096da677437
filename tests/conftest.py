"""What tests share: one thread, tiny images, tiny methods, and commands run in this process."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from errors import Interrupted, RunError, UserError, one_line
from models import methods
from models.method import Method

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def shrink(name: str) -> Method.Config:
    """Return a toy-sized configuration of any method: every network narrow and shallow."""
    config = methods.find(name).Config()
    sizes = {
        "generator": {"channels": 4, "blocks": 1},
        "discriminator": {"channels": 4, "layers": 1},
    }
    small = {
        name: replace(getattr(config, name), **size)
        for name, size in sizes.items()
        if hasattr(config, name)
    }
    return replace(config, **small)


TINY = [
    "method.generator.channels=4", "method.generator.blocks=1", "method.discriminator.channels=4",
    "method.discriminator.layers=1", "data.load_size=20", "data.crop_size=16", "data.workers=0",
    "log.wandb=disabled", "runtime.device=cpu", "score_images=2", "log.previews=1",
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
    """Run a command's main as the shell would; return its exit code and its one line of error."""
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
    """A run of eight tiny steps."""
    import train

    run = tmp_path_factory.mktemp("runs") / "tiny"
    code, error = call(
        train, "cyclegan", f"data.root={photos}", f"run={run}", "duration=8 steps", "checkpoint_every=4",
        "log.every=2", "log.previews_every=4", "ema_half_life=4", *TINY,
    )  # fmt: skip
    assert code == 0, error
    return run


PYTHON = sys.executable
