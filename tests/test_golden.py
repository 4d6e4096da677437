"""The losses of the first five steps of every method do not change in a refactoring.

The file of a new method is written when the test first runs: commit it. Where a change is meant to
alter the losses of one method, `GOLDEN=write python -m pytest tests/test_golden.py -k NAME` rewrites
its file, and the commit says why.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from engine.runtime import Runtime, RuntimeConfig
from engine.schedule import make_schedule
from engine.train_config import TrainingConfig
from engine.train_step import TrainStep
from models import methods
from tests.conftest import shrink

GOLDEN = Path(__file__).parent / "golden"


def trajectory(name: str, folder: Path) -> list[dict[str, float]]:
    """Return the losses of the first five steps of a toy-sized method on fixed noise."""
    torch.manual_seed(0)
    method = methods.find(name)(shrink(name), {"a": 3, "b": 3})
    config = TrainingConfig(duration="5 steps", batch_size=2)
    schedule = make_schedule(config.duration, config.decay_after, 2, 10)
    runtime = Runtime(RuntimeConfig(device="cpu"))
    train_step = TrainStep(method, config, schedule, runtime)
    generator = torch.Generator().manual_seed(1)
    rows = []
    for _ in range(5):
        batch = {d: torch.randint(0, 256, (2, 3, 16, 16), generator=generator).byte() for d in "ab"}
        rows.append({term: loss.item() for term, loss in train_step.take_step(batch).items()})
    return rows


@pytest.mark.parametrize("name", methods.names())
def test_the_first_five_steps_are_what_they_were(name, tmp_path):
    file, found = GOLDEN / f"{name}.json", trajectory(name, tmp_path)
    is_new = not file.exists()
    if is_new or os.environ.get("GOLDEN") == "write":
        file.write_text(json.dumps(found, indent=1) + "\n")
    if is_new:
        pytest.skip(f"wrote tests/golden/{name}.json, the losses of a new method: commit it")
    expected = json.loads(file.read_text())
    for row, golden in zip(found, expected, strict=True):
        assert row == pytest.approx(golden, rel=2e-4)  # kernels differ between processors


def test_every_golden_file_belongs_to_a_method():
    files = {file.stem for file in GOLDEN.glob("*.json") if not file.stem.endswith("_format_1")}
    assert files <= set(methods.names())
