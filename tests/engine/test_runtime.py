"""Devices, precision, compilation, and randomness by the step."""

import pytest
import torch
from torch import nn

from engine.runtime import Runtime, RuntimeConfig, seed_step
from errors import UserError


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps:0", "meta", "xpu"])
def test_a_device_that_is_not_there_is_answered(name):
    if name == "mps:0" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(UserError, match="runtime.device"):
        Runtime(RuntimeConfig(device=name))


def test_auto_takes_what_there_is():
    best = (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )
    assert Runtime(RuntimeConfig()).device.type == best


def test_bf16_computes_in_bf16_and_keeps_parameters_in_fp32():
    runtime = Runtime(RuntimeConfig(device="cpu", precision="bf16"))
    layer = nn.Conv2d(1, 1, 3)
    with runtime.autocast():
        assert layer(torch.zeros(1, 1, 8, 8)).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32
    with Runtime(RuntimeConfig(device="cpu")).autocast():
        assert layer(torch.zeros(1, 1, 8, 8)).dtype == torch.float32


def test_the_random_stream_is_a_function_of_seed_step_and_rank():
    def draw(*key: int) -> float:
        seed_step(*key)
        return torch.rand(()).item()

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(1, 2), draw(2, 1), draw(1, 3), draw(1, 2, 1), draw(12, 3), draw(1, 23)}) == 6


def test_a_description_says_what_a_figure_was_measured_on():
    description = Runtime(RuntimeConfig(device="cpu", precision="tf32")).describe()
    assert description["device"] == "cpu" and description["precision"] == "tf32"
    assert description["threads"] == torch.get_num_threads()
