"""Devices, precision, compilation, and randomness by the step."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engine.runtime import Runtime, RuntimeConfig, seed_step
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator
from models.networks.layers.norm_act_pad import NormActPad
from models.networks.layers.winograd import Conv3x3
from tests.conftest import raises_user_error


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps:0", "meta", "xpu"])
def test_a_device_that_is_missing_is_refused(name):
    if name == "mps:0" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with raises_user_error(option="runtime.device"):
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


def test_a_description_has_the_facts_that_a_measurement_depends_on():
    description = Runtime(RuntimeConfig(device="cpu", precision="tf32")).describe()
    assert description["device"] == "cpu" and description["precision"] == "tf32"
    assert description["threads"] == torch.get_num_threads()


def test_precision_is_fp32_on_a_cpu_unless_configured_and_tf32_is_set_for_each_runtime():
    runtime = Runtime(RuntimeConfig(device="cpu"))
    assert runtime.describe()["precision"] == "fp32" and not torch.backends.cudnn.allow_tf32
    other = Runtime(RuntimeConfig(device="cpu", precision="tf32"))
    assert torch.backends.cudnn.allow_tf32
    runtime.set_tf32()  # a global setting: each runtime sets its own before it computes
    assert not torch.backends.cudnn.allow_tf32
    other.set_tf32()
    assert torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32
    runtime.set_tf32()


@pytest.mark.parametrize("compiler", ["/bin/false", "no_such_compiler"])
def test_a_compiler_that_does_not_work_is_a_note_and_the_run_goes_on(compiler, monkeypatch, capsys):
    monkeypatch.setenv("CXX", compiler)
    runtime = Runtime(RuntimeConfig(device="cpu", compile="regions"))
    assert runtime.compile_mode is None
    assert "a C++ compiler that works" in capsys.readouterr().err


def prepared(config: RuntimeConfig) -> ResnetGenerator:
    network = ResnetGenerator(3, 3, GeneratorConfig(channels=4, blocks=1))
    Runtime(config).prepare(network, [network])
    return network


def kernels(network: nn.Module, kind: type) -> set[object]:
    name = {Conv3x3: "conv3x3", NormActPad: "norm_act_pad"}[kind]
    return {getattr(part.kernels, name) for part in network.modules() if isinstance(part, kind)}


def test_regions_compile_the_norms_and_choose_the_fast_convolution():
    plain = prepared(RuntimeConfig(device="cpu"))
    assert kernels(plain, Conv3x3) == {F.conv2d}
    regions = prepared(RuntimeConfig(device="cpu", compile="regions"))
    assert kernels(regions, Conv3x3).isdisjoint({F.conv2d})
    assert kernels(regions, NormActPad).isdisjoint(kernels(plain, NormActPad))
    direct = prepared(RuntimeConfig(device="cpu", compile="regions", winograd=False))
    assert kernels(direct, Conv3x3) == {F.conv2d}


# Dynamo reads .grad of the tensors that it traces, of which torch warns.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_compiled_network_computes_the_images_and_gradients_of_the_plain_one():
    torch.manual_seed(0)
    plain = prepared(RuntimeConfig(device="cpu")).double()
    regions = prepared(RuntimeConfig(device="cpu", compile="regions")).double()
    regions.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 16, 16).double()
    results = []
    for network in (plain, regions):
        fake = network(image)
        weights = [p for p in network.parameters() if p.ndim > 1]
        results.append((fake, *torch.autograd.grad(fake.square().sum(), weights)))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_without_a_compiler_a_run_goes_on_uncompiled_with_a_note(monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    network = prepared(RuntimeConfig(device="cpu", compile="regions"))
    assert kernels(network, Conv3x3) == {F.conv2d}
    (line,) = capsys.readouterr().err.splitlines()
    assert "runtime.compile=regions" in line and "CXX" in line


def test_a_graph_without_a_cuda_device_is_refused():
    with raises_user_error(option="runtime.cuda_graph"):
        Runtime(RuntimeConfig(device="cpu", cuda_graph=True))


def test_determinism_is_set_in_torch_and_changes_no_loss_on_a_cpu(photos, tmp_path):
    import json

    import train
    from tests.conftest import TINY, call

    rows = []
    try:
        for deterministic in (False, True):
            run = tmp_path / str(deterministic)
            words = [f"data.root={photos}", f"run={run}", "duration=3 steps", "log.every=1", *TINY]
            words.append(f"runtime.deterministic={str(deterministic).lower()}")
            assert call(train, "cyclegan", *words) == (0, "")
            assert torch.are_deterministic_algorithms_enabled() == deterministic
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            rows.append([{k: v for k, v in line.items() if k != "seconds"} for line in lines])
    finally:
        torch.use_deterministic_algorithms(False)
    for one, two in zip(*rows, strict=True):
        assert one == pytest.approx(two, rel=1e-5)
