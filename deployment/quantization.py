"""Write an 8-bit copy of an ONNX graph: the fastest one that passes the parity check."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from deployment.graph_export import quiet
from deployment.parity import GATES, Parity, ParityCheck, as_arrays


@dataclass(frozen=True)
class Recipe:
    """Which parts of a graph are quantized to 8 bits, and with which ranges."""

    description: str  # for the manifest
    trunk_only: bool = True  # only the widest convolutions: most of the work and of the weights
    outputs: bool = True  # also their outputs; without these the arithmetic is not faster
    percentile: float = 0.0  # of the values that a range covers; 0: all of them


# The first recipe is the fastest and loses the most; they are tried in this order.
RECIPES = (
    Recipe("8 bits in all but the first, the last and transposed convolutions", trunk_only=False),
    Recipe("8 bits in the convolutions of the trunk", percentile=99.99),
    Recipe(
        "8 bits in the weights and inputs of the trunk's convolutions",
        outputs=False,
        percentile=99.99,
    ),
)


CALIBRATION_IMAGES = 16
HISTOGRAM_IMAGES = 4  # for ranges by percentile, whose histograms hold all values in memory


def write_int8(
    graph: bytes, path: Path, images: Sequence[Tensor], parity_check: ParityCheck
) -> Recipe | None:
    """Write the first 8-bit copy of a pixel graph that passes the parity check; return its recipe.

    `images` [1, C, H, W] in [-1, 1] calibrate the ranges. Where no copy passes, None is returned,
    nothing is left at `path`, and the reason is in `parity_check.rejected`.
    """
    source = path.with_name("float.onnx")
    source.write_bytes(graph)
    tried: list[Parity] = []
    try:
        for recipe in RECIPES if images else ():
            arrays = [as_arrays(image, parity_check.source) for image in images]
            if not quantize(source, path, arrays, recipe):
                continue
            tried.append(parity_check.measure(path, parity_check.onnx_runner(path)))
            if not tried[-1].violation(GATES[path.name]):
                parity_check.rows.append(tried[-1])
                return recipe
            path.unlink()
    finally:
        source.unlink()
    best = max(tried, key=lambda row: row.psnr or 0.0, default=None)
    parity_check.rejected[path.name] = (
        best.violation(GATES[path.name]) if best
        else "calibration needs training images and convolutions, and some were not found"
    )  # fmt: skip
    return None


def quantize(source: Path, target: Path, images: Sequence[np.ndarray], recipe: Recipe) -> bool:
    """Write an 8-bit copy of a pixel graph; return False where the recipe finds no convolution.

    `images` [1, H, W, C], as the graph takes them, calibrate the ranges. Weights have a scale for
    each output channel; the graph has quantize and dequantize operators (the QDQ format). A norm
    layer amplifies the rounding errors of the 8-bit output before it, which is where most of the
    quality is lost.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType

    graph = onnx.load(source).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    convolutions = {n.name: shapes[n.input[1]] for n in graph.node if n.op_type == "Conv"}
    widest = max((shape[0] for shape in convolutions.values()), default=0)
    selected = list(convolutions)[1:-1]
    if recipe.trunk_only:
        selected = [name for name in selected if convolutions[name][:2] == [widest, widest]]
    if not selected:
        return False
    used = images[:HISTOGRAM_IMAGES] if recipe.percentile else images
    feeds = iter([{"image": image} for image in used])

    class CalibrationImages(CalibrationDataReader):
        def get_next(self) -> Any:
            return next(feeds, None)

    extra: dict[str, Any] = {"CalibPercentile": recipe.percentile} if recipe.percentile else {}
    if not recipe.outputs:
        extra["OpTypesToExcludeOutputQuantization"] = ["Conv"]
    method = CalibrationMethod.Percentile if recipe.percentile else CalibrationMethod.MinMax
    with quiet():
        quantization.quantize_static(
            str(source), str(target), CalibrationImages(), per_channel=True,
            nodes_to_quantize=selected, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, calibrate_method=method, extra_options=extra,
        )  # fmt: skip
    return True
