"""Tests that need a CUDA device; run by `make test-gpu`."""

import copy

import pytest
import torch

from benchmarks import inference
from data.config import DataConfig
from data.folders import find_split
from data.image_store.device import DeviceSamples
from data.samples import UnpairedSamples
from engine.hardware.cuda_graphs import CudaGraphStep, prefetch_to_device
from engine.runtime import Runtime, RuntimeConfig
from engine.schedule import make_schedule
from engine.train_config import TrainingConfig
from engine.train_step import TrainStep
from models import methods
from tests.conftest import shrink
from training.failure_monitor import NonFiniteError, TrainingMonitor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:The .grad attribute"),  # of tensors that Dynamo traces
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),  # torch calls it a prototype
]


def train_step_on(runtime: RuntimeConfig) -> TrainStep:
    torch.manual_seed(0)
    method = methods.find("cyclegan")(shrink("cyclegan"), {"a": 3, "b": 3})
    config = TrainingConfig(duration="20 steps", batch_size=2, ema_half_life=10)
    schedule = make_schedule("20 steps", "50%", 2, 10)
    return TrainStep(method, config, schedule, Runtime(runtime))


def batch_on(device: str, step: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        d: torch.randint(0, 256, (2, 3, 16, 16), generator=generator).byte().to(device)
        for d in "ab"
    }


def losses_on(runtime: RuntimeConfig, steps: int = 2) -> list[dict[str, float]]:
    train_step = train_step_on(runtime)
    found = [
        {name: loss.item() for name, loss in train_step.take_step(batch_on("cpu", step)).items()}
        for step in range(steps)
    ]
    train_step.restore(train_step.state())
    return found


@pytest.mark.parametrize(
    "runtime",
    [
        RuntimeConfig(device="cuda", precision="fp32"), RuntimeConfig(device="cuda"),
        RuntimeConfig(device="cuda", precision="bf16"),
        RuntimeConfig(device="cuda", precision="bf16", compile="regions"),
        RuntimeConfig(device="cuda", activation_checkpointing=True),
        RuntimeConfig(device="cuda", cuda_graph=True),
        RuntimeConfig(device="cuda", precision="bf16", compile="regions", cuda_graph=True),
        RuntimeConfig(device="cuda", precision="bf16", compile="networks", cuda_graph=True),
    ],
)  # fmt: skip
def test_a_cuda_device_computes_the_losses_of_the_cpu(runtime):
    tolerance = 0.1 if runtime.precision == "bf16" else 1e-2
    expected = losses_on(RuntimeConfig(device="cpu"))
    for one, other in zip(expected, losses_on(runtime), strict=True):
        assert other == pytest.approx(one, rel=tolerance)


def test_a_captured_run_is_the_run_step_by_step_while_the_image_pool_fills_and_swaps():
    # A pool of 4 is full after 2 steps of 2, the capture is at the 4th. GANs amplify the last bit,
    # in which kernels differ: two plain runs differ by a tenth of the tolerance.
    plain = losses_on(RuntimeConfig(device="cuda", precision="fp32"), 9)
    captured = losses_on(RuntimeConfig(device="cuda", precision="fp32", cuda_graph=True), 9)
    for one, other in zip(plain, captured, strict=True):
        assert other == pytest.approx(one, rel=0.05)


def test_a_captured_run_continues_from_a_plain_one_and_back():
    for first, second in ((False, True), (True, False)):
        one = train_step_on(RuntimeConfig(device="cuda", cuda_graph=first))
        for step in range(6):
            one.take_step(batch_on("cuda", step))
        other = train_step_on(RuntimeConfig(device="cuda", cuda_graph=second))
        other.restore(copy.deepcopy(one.state()))  # two optimizers would share their moments
        expected = {n: x.item() for n, x in one.take_step(batch_on("cuda", 6)).items()}
        found = {n: x.item() for n, x in other.take_step(batch_on("cuda", 6)).items()}
        assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("graph", [False, True])
def test_no_step_waits_for_the_device(graph):
    train_step = train_step_on(RuntimeConfig(device="cuda", cuda_graph=graph))
    batch = batch_on("cuda")
    for _ in range(6):
        train_step.take_step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            train_step.take_step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_prefetched_batches_are_the_batches():
    batches = [{"a": torch.full((2, 3), float(n)).pin_memory()} for n in range(5)]
    for number, batch in enumerate(prefetch_to_device(iter(batches), torch.device("cuda"))):
        assert batch["a"].device.type == "cuda" and (batch["a"] == number).all()


def test_samples_in_the_device_cache_are_those_of_the_files(photos):
    config = DataConfig(root=str(photos), load_size=20, crop_size=16)
    files = find_split(config, "train")
    from_files = UnpairedSamples(files, config, 1).batches(2, 0, 4, 0, False)
    from_device = DeviceSamples(files, config, 1, torch.device("cuda")).batches(2, 0, 4, 0, False)
    for one, other in zip(from_files, from_device, strict=True):
        assert all(torch.equal(one[domain], other[domain].cpu()) for domain in ("a", "b"))


@pytest.mark.parametrize("graph", [False, True])
def test_a_step_that_is_not_finite_is_named_on_the_device_too_and_changes_no_weight(graph):
    config = RuntimeConfig(device="cuda", cuda_graph=graph)
    train_step = train_step_on(config)
    monitor = TrainingMonitor(train_step.config, train_step.runtime.device)
    for step in range(6):
        losses = train_step.take_step(batch_on("cuda", step))
        monitor.note(train_step.step, losses, train_step.grad_norms)
    before = [p.detach().clone() for p in train_step.method.parameters()]
    with torch.no_grad():
        first = next(train_step.optimizer_groups["generators"].parameters())
        original = first.detach().clone()
        first.fill_(float("nan"))
        losses = train_step.take_step(batch_on("cuda", 6))
        monitor.note(train_step.step, losses, train_step.grad_norms)
        first.copy_(original)
    with pytest.raises(NonFiniteError, match="at step 7"):
        monitor.drain()
    for one, other in zip(train_step.method.parameters(), before, strict=True):
        assert torch.equal(one, other)


def test_a_captured_translation_is_the_translation():
    config = RuntimeConfig(device="cuda", precision="fp32")
    translator, runtime = inference.prepared(config)
    captured = inference.recorded(translator, runtime)
    for size in (64, 96) * (CudaGraphStep.WARM_UP + 2):
        image = torch.rand(1, 3, size, size) * 2 - 1
        expected = inference.translate(translator, runtime, image)
        assert torch.allclose(captured(image), expected, atol=1e-4)
