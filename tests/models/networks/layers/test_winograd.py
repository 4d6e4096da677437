"""Winograd's convolution equals the direct one: outputs, both gradients, all supported sizes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator
from models.networks.layers.op_backends import KernelSet, fusible_norm_act_pad, use_kernels
from models.networks.layers.winograd import Conv3x3, winograd

convolve = winograd(lambda transform: transform)


def both(height: int, width: int, layout=torch.channels_last):
    """Return outputs and gradients of the direct form in float64 and of Winograd's in float32."""
    torch.manual_seed(height * 100 + width)
    x = torch.randn(2, 5, height, width).contiguous(memory_format=layout)
    weight = torch.randn(7, 5, 3, 3)
    upstream = torch.randn(2, 7, height - 2, width - 2)
    results = []
    for convolution, dtype in ((F.conv2d, torch.float64), (convolve, torch.float32)):
        leaves = [t.to(dtype).requires_grad_() for t in (x, weight)]
        y = convolution(*leaves)
        results.append((y, *torch.autograd.grad(y, leaves, upstream.to(dtype))))
    return results


@pytest.mark.parametrize(("height", "width"), [(4, 4), (4, 10), (16, 6), (18, 18)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_it_is_the_convolution_up_to_rounding(height, width, layout):
    expected, computed = both(height, width, layout)
    for one, other in zip(expected, computed, strict=True):
        assert ((one - other).norm() / one.norm()).item() < 1e-6


@pytest.mark.parametrize(("height", "width"), [(5, 8), (8, 5), (3, 3)])
def test_odd_outputs_are_left_to_the_direct_form(height, width):
    expected, computed = both(height, width)
    for one, other in zip(expected, computed, strict=True):
        assert torch.allclose(one.float(), other, atol=1e-4)


def test_it_multiplies_16_times_where_the_direct_form_does_36_times():
    x = torch.randn(1, 8, 18, 18, requires_grad=True)
    weight = torch.randn(8, 8, 3, 3, requires_grad=True)
    counts = []
    for convolution in (F.conv2d, convolve):
        with FlopCounterMode(display=False) as counter:
            convolution(x, weight).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] / counts[1] == 36 / 16


def test_without_gradients_it_is_the_direct_form_to_the_bit():
    x, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
    with torch.no_grad():
        assert torch.equal(convolve(x, weight), F.conv2d(x, weight))


def test_in_bf16_the_sums_stay_close_and_weights_and_their_gradient_stay_fp32():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 64, 18, 18), torch.randn(64, 64, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolve(x, weight)
    exact = F.conv2d(x, weight)
    assert y.dtype == torch.bfloat16
    assert ((y.float() - exact).norm() / exact.norm()).item() < 0.01  # direct bf16: 0.004
    assert torch.autograd.grad(y.float().sum(), weight)[0].dtype == torch.float32


def test_a_generator_with_it_computes_the_same_images_and_gradients():
    torch.manual_seed(0)
    direct = ResnetGenerator(3, 3, GeneratorConfig(channels=4, blocks=2)).double()
    other = copy.deepcopy(direct)
    use_kernels(other, KernelSet(norm_act_pad=fusible_norm_act_pad, conv3x3=convolve))
    assert sum(isinstance(part, Conv3x3) for part in other.modules()) == 4
    x = torch.randn(2, 3, 32, 32).double()
    results = []
    for network in (direct, other):
        y = network(x)
        weights = [p for p in network.parameters() if p.ndim > 1]
        results.append((y, *torch.autograd.grad(y.square().sum(), weights)))
    for one, computed in zip(*results, strict=True):
        assert torch.allclose(one, computed, rtol=1e-9, atol=1e-12 * one.abs().max().item())


def test_names_and_weights_are_those_of_a_plain_convolution():
    torch.manual_seed(0)
    one = Conv3x3(3, 5)
    torch.manual_seed(0)
    other = nn.Conv2d(3, 5, 3)
    assert all(torch.equal(one.state_dict()[name], x) for name, x in other.state_dict().items())
