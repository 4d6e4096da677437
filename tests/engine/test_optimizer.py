"""The optimizer and the moving average."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from engine.ema import ExponentialMovingAverage
from engine.optimizer import adam


def averaged(half_life: float, steps: int, batch_size: int, start: int = 0) -> float:
    """Return the EMA of a weight that was 0 at first and 1 in all steps."""
    model = nn.ModuleDict({"x": nn.Linear(1, 1, bias=False)})
    nn.init.zeros_(model["x"].weight)
    average = ExponentialMovingAverage(model, half_life)
    nn.init.ones_(model["x"].weight)
    for step in range(1, steps + 1):
        average.update(start + step * batch_size, batch_size)
    return average.ema["x"].weight.item()


def test_after_a_half_life_half_of_the_way_is_gone_whatever_the_batch():
    # 10,000 images in, the ramp is over: a half-life of 100 images halves the distance each 100.
    assert averaged(100, 100, 1, start=10_000) == pytest.approx(0.5, abs=1e-5)
    assert averaged(100, 25, 4, start=10_000) == pytest.approx(0.5, abs=1e-5)


def test_a_decay_of_0_999_has_its_published_value_after_1000_steps():
    # 0.5^(1 / h) = 0.999 for h = ln 0.5 / ln 0.999; 1 - 0.999^1000 = 0.632305.
    half_life = -0.6931471805599453 / -0.0010005003335835335
    assert averaged(half_life, 1000, 1, start=10**9) == pytest.approx(0.632305, abs=1e-4)


def test_a_short_run_is_not_an_average_of_its_beginning():
    assert averaged(100_000, 100, 1) > 0.95


def test_the_average_has_no_gradient_and_does_not_change_the_model():
    model = nn.ModuleDict({"x": nn.BatchNorm1d(2)})
    average = ExponentialMovingAverage(model, 10)
    model["x"](torch.randn(8, 2))
    before = model["x"].weight.clone()
    average.update(100, 1)
    assert not any(p.requires_grad for p in average.ema.parameters())
    assert torch.equal(model["x"].weight, before)
    assert torch.equal(average.ema["x"].running_mean, model["x"].running_mean)
    assert average.ema["x"].num_batches_tracked == 1


@pytest.mark.parametrize(("weight_decay", "expected"), [(0.0, 1.0), (0.1, 0.99)])
def test_weight_decay_is_a_gradient_towards_zero(weight_decay, expected):
    # No gradient but the decay's, 0.1 * 1: Adam's first step is the rate, whatever the gradient.
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimizer = adam(layer, 0.01, (0.5, 0.999), weight_decay=weight_decay)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    assert layer.weight.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_torchs_adam_bit_for_bit(weight_decay):
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    mine = adam(ours, 0.01, (0.5, 0.999), weight_decay=weight_decay)
    reference = torch.optim.Adam(
        theirs.parameters(), lr=0.01, betas=(0.5, 0.999), weight_decay=weight_decay, fused=True
    )
    for step in range(6):
        if step == 3:  # each loads the state of the other
            state = mine.state_dict()
            mine = adam(ours, 0.01, (0.5, 0.999), weight_decay=weight_decay)
            mine.load_state_dict(reference.state_dict())
            reference.load_state_dict(state)
        x = torch.randn(7, 5)
        for layer, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad(set_to_none=True)
            layer(x).square().sum().backward()
            optimizer.step()
        assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)
    assert not any(p.grad_fn for p in ours.parameters())


def test_an_optimizer_does_not_import_the_compiler():
    # torch's own does, the first time that it is made: longer than importing torch takes.
    program = """
import sys, torch
from engine.optimizer import adam
layer = torch.nn.Linear(2, 2)
optimizer = adam(layer, 0.01, (0.5, 0.999))
layer(torch.ones(1, 2)).sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"
