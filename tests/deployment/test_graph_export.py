"""Traced translators equal the translators on images of any size."""

import pytest
import torch

from deployment.graph_export import AnySizeTranslator, float_example, to_onnx, trace
from models.methods.cyclegan import CycleGAN
from models.networks.generators.generator_config import GeneratorConfig
from models.translator import DeterministicTranslator


@pytest.mark.parametrize("kind", ["unet", "norm_free_unet"])
def test_the_graph_of_a_unet_holds_on_both_sides_of_one_innermost_pixel(kind, tmp_path):
    import onnxruntime

    config = GeneratorConfig(kind=kind, num_downs=3, channels=4, init_type="kaiming")
    method = CycleGAN(CycleGAN.Config(generator=config), {"a": 3, "b": 3}).eval()
    translator = method.translators()["a_to_b"]
    assert isinstance(translator, DeterministicTranslator)
    program = trace(AnySizeTranslator(translator), float_example(translator))
    path = tmp_path / "unet.onnx"
    path.write_bytes(to_onnx(program, {}))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for size in ((5, 8), (20, 20), (33, 70)):  # padded to 8 (one innermost pixel), 24, 40 and 72
        image = torch.rand(1, 3, *size) * 2 - 1
        with torch.no_grad():
            expected = translator(image)
            assert (program.module()(image) - expected).abs().max() < 1e-5
        (found,) = session.run(None, {"image": image.numpy()})
        assert abs(found - expected.numpy()).max() < 1e-4
