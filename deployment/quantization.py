"""Write 8-bit copies of an ONNX graph and keep the first that passes the parity check."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from deployment.graph_export import quiet
from deployment.parity import GATES, Comparison, Parity, as_pixels, onnx_runner


@dataclass(frozen=True)
class Recipe:
    """A way to 8 bits; those that are faster lose more, and are tried first."""

    what: str
    trunk: bool = True  # only the widest convolutions, which are most of the work and the weights
    outputs: bool = True  # their outputs too, without which there is no faster arithmetic
    percentile: float = 0.0  # of the values that a range holds; 0 holds all


RECIPES = (
    Recipe("8 bits in all but the first, the last and transposed convolutions", trunk=False),
    Recipe("8 bits in the convolutions of the trunk", percentile=99.99),
    Recipe(
        "8 bits in the weights and inputs of the trunk's convolutions",
        outputs=False,
        percentile=99.99,
    ),
)


CALIBRATION, HISTOGRAMS = 16, 4  # images that ranges are taken from; histograms hold all they see


def write_int8(
    graph: bytes, path: Path, images: Sequence[Tensor], comparison: Comparison
) -> Recipe | None:
    """Write the first 8-bit copy of a pixel graph that is within its gate; return how it was made.

    Where there is none, nothing is left at `path`, and `comparison` knows why.
    """
    source = path.with_name("float.onnx")
    source.write_bytes(graph)
    tried: list[Parity] = []
    try:
        for recipe in RECIPES if images else ():
            if not quantize(source, path, images, recipe):
                continue
            tried.append(comparison.measured(path, onnx_runner(path)))
            if not tried[-1].faults(GATES[path.name]):
                comparison.rows.append(tried[-1])
                return recipe
            path.unlink()
    finally:
        source.unlink()
    best = max(tried, key=lambda row: row.psnr or 0.0, default=None)
    comparison.rejected[path.name] = (
        best.faults(GATES[path.name]) if best
        else "its ranges need training images and convolutions, and some were not found"
    )  # fmt: skip
    return None


def quantize(source: Path, target: Path, images: Sequence[Tensor], recipe: Recipe) -> bool:
    """Write an 8-bit copy of a pixel graph, its ranges taken from `images`; False if it has no use.

    Weights have a scale for each output channel, and lie between quantise and dequantise operators
    (QDQ). What an 8-bit output has lost, the norm behind it amplifies: that is where quality goes.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType

    graph = onnx.load(source).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    found = {n.name: shapes[n.input[1]] for n in graph.node if n.op_type == "Conv"}
    widest = max(shape[0] for shape in found.values())
    chosen = list(found)[1:-1]
    if recipe.trunk:
        chosen = [name for name in chosen if found[name][:2] == [widest, widest]]
    if not chosen:
        return False
    feeds = iter(
        [{"image": as_pixels(i)} for i in images[: HISTOGRAMS if recipe.percentile else None]]
    )

    class Images(CalibrationDataReader):
        def get_next(self) -> Any:
            return next(feeds, None)

    extra: dict[str, Any] = {"CalibPercentile": recipe.percentile} if recipe.percentile else {}
    if not recipe.outputs:
        extra["OpTypesToExcludeOutputQuantization"] = ["Conv"]
    method = CalibrationMethod.Percentile if recipe.percentile else CalibrationMethod.MinMax
    with quiet():
        quantization.quantize_static(
            str(source), str(target), Images(), per_channel=True, nodes_to_quantize=chosen,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=method, extra_options=extra,
        )  # fmt: skip
    return True
