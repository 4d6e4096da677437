"""What only a CUDA device can show; run by `make test-gpu`."""

import pytest
import torch

from engine.runtime import Runtime, RuntimeConfig
from engine.schedule import plan
from engine.trainer import Trainer, TrainingConfig
from models import methods
from tests.conftest import shrink

pytestmark = pytest.mark.gpu


def losses_on(tmp_path, runtime: RuntimeConfig) -> dict[str, float]:
    torch.manual_seed(0)
    method = methods.find("cyclegan")(shrink("cyclegan"), {"a": 3, "b": 3})
    config = TrainingConfig(duration="5 steps", batch_size=2, ema_half_life=10)
    schedule = plan("5 steps", "50%", 2, 10)
    trainer = Trainer(method, None, {}, {}, config, schedule, Runtime(runtime), tmp_path)
    generator = torch.Generator().manual_seed(1)
    batch = {d: torch.randint(0, 256, (2, 3, 16, 16), generator=generator).byte() for d in "ab"}
    trainer.take_step(batch)
    found = {name: loss.item() for name, loss in trainer.take_step(batch).items()}
    (tmp_path / "options.yaml").write_text("")
    trainer.restore(trainer.state())
    return found


@pytest.mark.parametrize(
    "runtime",
    [
        RuntimeConfig(device="cuda"), RuntimeConfig(device="cuda", precision="tf32"),
        RuntimeConfig(device="cuda", precision="bf16"),
        RuntimeConfig(device="cuda", precision="bf16", compile="regions"),
        RuntimeConfig(device="cuda", checkpoint_activations=True),
    ],
)  # fmt: skip
def test_a_cuda_device_computes_the_losses_of_the_cpu(tmp_path, runtime):
    tolerance = 0.1 if runtime.precision == "bf16" else 1e-2
    expected = losses_on(tmp_path, RuntimeConfig(device="cpu"))
    assert losses_on(tmp_path, runtime) == pytest.approx(expected, rel=tolerance)
