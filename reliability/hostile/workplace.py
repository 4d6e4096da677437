"""Images, a trained run and a bundle for hostile inputs to be put into, and the commands on them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

import export
import test
import train
import translate
from data.scenes import generate
from reliability.command_in_child import SMALL, Result, run_in_child

COMMANDS: dict[str, ModuleType] = {
    "train": train, "test": test, "translate": translate, "export": export,
}  # fmt: skip


@dataclass(frozen=True)
class Workplace:
    """A folder with images, a run of two steps, a bundle of it, and an output folder."""

    root: Path

    @property
    def data(self) -> Path:
        """The data set."""
        return self.root / "data"

    @property
    def run(self) -> Path:
        """The run."""
        return self.root / "run"

    @property
    def bundle(self) -> Path:
        """The bundle of the run's first direction."""
        return self.root / "bundle" / "a_to_b"

    @property
    def out(self) -> Path:
        """The folder that translate.py writes into."""
        return self.root / "out"

    def words(self, command: str, more: tuple[str, ...] = ()) -> list[str]:
        """Return the words of a command that reads and writes only in this folder."""
        words = {
            "train": ["cyclegan", f"data.root={self.data}", f"run={self.run}", *SMALL,
                      "duration=4 steps", "checkpoint_every=2"],
            "test": [str(self.run), "wandb=disabled", "checks=false", "runtime.device=cpu"],
            "translate": [str(self.run), str(self.data / "testA"), str(self.out),
                          "direction=a_to_b", "runtime.device=cpu"],
            "export": [str(self.run), f"out={self.root / 'bundle'}", "direction=a_to_b",
                       "formats=safetensors"],
        }[command]  # fmt: skip
        return [*words, *more]

    def start(self, command: str, prepare: Callable[[], object] = lambda: None) -> Result:
        """Run a command here."""
        return run_in_child(COMMANDS[command].main, self.words(command), prepare)


def make_workplace(root: Path) -> Workplace:
    """Make the images, train the run (four steps) and export the bundle."""
    torch.set_num_threads(1)
    place = Workplace(root)
    generate("season", place.data, train=3, test=2, size=24)
    for command in ("train", "test", "translate", "export"):
        result = place.start(command)
        assert result.code == 0, result.errors
    return place
