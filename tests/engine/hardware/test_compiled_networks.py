"""Every method learns with its networks compiled what it learns without."""

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

from engine import runtime
from engine.config import TrainingConfig
from engine.runtime import Runtime, RuntimeConfig
from engine.schedule import make_schedule
from engine.train_step import TrainStep
from models import methods
from models.method import Method
from tests.conftest import shrink

# Dynamo looks at .grad of what it traces, which torch warns of.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute")


@pytest.fixture(autouse=True)
def _traced(monkeypatch):
    """Compile without a compiler: what torch.compile does to a graph, on torch's own kernels."""
    traced = functools.partialmethod(nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(nn.Module, "compile", traced)
    monkeypatch.setattr(runtime, "missing_compiler", lambda device: "")
    # In the order of an image's places, not in that of memory, which a compiler may choose.
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.randn(x.shape, dtype=x.dtype))
    torch._dynamo.reset()  # how often a function may be compiled is counted over all tests


def step(config: Method.Config, machine: Runtime) -> tuple[dict[str, float], Method]:
    """Return the losses of a first step on fixed noise, and the method after it."""
    torch.manual_seed(0)
    method = methods.find(config.name)(config, {"a": 3, "b": 3})
    training = TrainingConfig(duration="5 steps", batch_size=2)
    train_step = TrainStep(method, training, make_schedule("5 steps", "100%", 2, 10), machine)
    generator = torch.Generator().manual_seed(1)
    batch = {d: torch.randint(0, 256, (2, 3, 16, 16), generator=generator).byte() for d in "ab"}
    return {name: loss.item() for name, loss in train_step.take_step(batch).items()}, method


def assert_same_step(config: Method.Config) -> None:
    """Compare the losses of a step, and the statistics it leaves, without and with compilation."""
    plain, compiled = (
        Runtime(RuntimeConfig(device="cpu", compile=kind)) for kind in ("none", "networks")
    )
    (expected, one), (found, other) = step(config, plain), step(config, compiled)
    networks = [part for part in other.modules() if part._compiled_call_impl is not None]
    assert bool(networks) == bool(other.optimizer_groups())
    assert found == pytest.approx(expected, rel=1e-4)
    for (name, kept), (_, same) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        assert torch.allclose(kept, same, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("name", methods.names())
def test_a_step_with_compiled_networks_is_that_of_plain_ones(name):
    assert_same_step(shrink(name))


@pytest.mark.parametrize("spectral", [False, True])
def test_so_it_is_with_a_penalty_on_a_judge_that_keeps_statistics(spectral):
    config = shrink("cyclegan")
    judge = replace(config.discriminator, norm="batch", spectral=spectral)
    assert_same_step(replace(config, discriminator=judge, penalty="r1"))
