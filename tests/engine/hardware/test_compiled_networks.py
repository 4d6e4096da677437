"""Every method has the same losses with compiled networks as without compilation."""

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

from engine import runtime as runtime_module
from engine.runtime import Runtime, RuntimeConfig
from engine.schedule import make_schedule
from engine.train_config import TrainingConfig
from engine.train_step import TrainStep
from models import methods
from models.method import Method
from tests.conftest import shrink

# Dynamo reads .grad of the tensors that it traces, of which torch warns.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute")


@pytest.fixture(autouse=True)
def _traced(monkeypatch):
    """Trace as torch.compile does, but run the graph with torch's kernels, without a compiler."""
    traced = functools.partialmethod(nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(nn.Module, "compile", traced)
    monkeypatch.setattr(runtime_module, "missing_compiler", lambda device: "")
    # Drawn in the order of pixels, not of memory: a compiler may choose another memory layout.
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.randn(x.shape, dtype=x.dtype))
    torch._dynamo.reset()  # the limit of compilations of a function is over all tests


def step(config: Method.Config, runtime: Runtime) -> tuple[dict[str, float], Method]:
    """Return the losses of a first step on fixed noise, and the method after it."""
    torch.manual_seed(0)
    method = methods.find(config.name)(config, {"a": 3, "b": 3})
    training = TrainingConfig(duration="5 steps", batch_size=2)
    train_step = TrainStep(method, training, make_schedule("5 steps", "100%", 2, 10), runtime)
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
    for (name, expected_buffer), (_, buffer) in zip(
        one.named_buffers(), other.named_buffers(), strict=True
    ):
        assert torch.allclose(expected_buffer, buffer, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("name", methods.names())
def test_a_step_with_compiled_networks_is_that_of_eager_ones(name):
    assert_same_step(shrink(name))


@pytest.mark.parametrize("spectral", [False, True])
def test_a_compiled_discriminator_with_statistics_and_a_penalty_has_the_same_step(spectral):
    config = shrink("cyclegan")
    discriminator = replace(config.discriminator, norm="batch", spectral=spectral)
    assert_same_step(replace(config, discriminator=discriminator, penalty="r1"))
