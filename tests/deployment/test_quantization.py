"""Tests of the 8-bit copies of ONNX graphs."""

from pathlib import Path

import pytest
import torch

from deployment.quantization import RECIPES, quantize


def test_a_graph_without_convolutions_is_not_quantized(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    shape = ["batch", 3, "height", "width"]
    image, output = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, shape)
        for name in ("image", "output")
    )
    node = onnx.helper.make_node("Identity", ["image"], ["output"])
    graph = onnx.helper.make_graph([node], "identity", [image], [output])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "float.onnx")
    images = [torch.zeros(1, 3, 8, 8)]
    for recipe in RECIPES:
        target = tmp_path / "int8.onnx"
        assert quantize(tmp_path / "float.onnx", target, images, recipe) is False
        assert not target.exists()
