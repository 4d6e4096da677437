"""A translator as graphs that run without this software: torch.export and ONNX, also in 16 and 8 bits.

Padding is written as indices: a choice of Python's would be frozen by the tracing.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from models.translator import DeterministicTranslator, Translator

FLOATS = {"input": "float32 [batch, channels, height, width] in [-1, 1]",
          "output": "float32 [batch, channels, height, width] in [-1, 1]"}  # fmt: skip
PIXELS = {"input": "uint8 [batch, height, width, channels]",
          "output": "uint8 [batch, height, width, channels]"}  # fmt: skip


class AnySize(nn.Module):
    """The translator for tracing: the same padding and cropping, for any size, as operations."""

    def __init__(self, translator: DeterministicTranslator) -> None:
        super().__init__()
        self.generator = translator.generator
        self.multiple = translator.multiple
        self.minimum = translator.minimum

    def forward(self, image: Tensor) -> Tensor:
        """Map float [B, C, H, W] in [-1, 1] to the same; inside, the generator's own precision."""
        height, width = image.shape[-2:]
        tall, wide = (self.fitting(side) for side in (height, width))
        reflectable = (_number(tall) < 2 * height) & (_number(wide) < 2 * width)
        rows, columns = (
            _extended(whole, side, reflectable) for whole, side in ((tall, height), (wide, width))
        )
        fitted = image.index_select(2, rows).index_select(3, columns)
        result = self.generator(fitted.to(next(self.generator.parameters()).dtype))
        # A slice would be guarded with the example's size.
        cut = result.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))
        return cut.to(image.dtype)

    def fitting(self, side: int) -> Any:
        """Do as models.translator.fitting, for a side that is only a symbol."""
        least = torch.sym_max(side, self.minimum)
        return (least + self.multiple - 1) // self.multiple * self.multiple


class Pixels(nn.Module):
    """The translator for tracing, from pixels to pixels."""

    def __init__(self, translator: DeterministicTranslator) -> None:
        super().__init__()
        self.translate = AnySize(translator)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map uint8 [B, H, W, C] to the same, with the arithmetic of data.loading."""
        image = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        levels = ((self.translate(image) + 1.0) * 127.5).round().clamp(0, 255)
        return levels.to(torch.uint8).permute(0, 2, 3, 1)


def _number(side: Any) -> Tensor:
    return torch.scalar_tensor(side, dtype=torch.int64)


def _extended(whole: Any, side: Any, reflectable: Tensor) -> Tensor:
    """Return the `whole` positions that extend 0 .. side - 1 by reflection, or by its last."""
    at, last = torch.arange(whole), side - 1
    return torch.where(reflectable, last - (at - last).abs(), at.clamp(max=last))


def float_example(translator: Translator) -> Tensor:
    """Return zeros to trace with; no side fits, so that nothing is left out for sides that do."""
    return torch.zeros(2, translator.in_channels, 21, 27)


def trace(module: nn.Module, example: Tensor) -> ExportedProgram:
    """Return a module as a graph for any batch, height and width of 1 and more."""
    axes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    if example.dtype == torch.uint8:
        axes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    with quiet():
        program = torch.export.export(module, (example,), dynamic_shapes=(axes,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    return program


def to_pt2(program: ExportedProgram) -> bytes:
    """Return a graph as the file of torch.export."""
    encoded = io.BytesIO()
    with quiet():
        torch.export.save(program, encoded)
    return encoded.getvalue()


def pixel_graph(translator: Translator, labels: Mapping[str, str]) -> bytes:
    """Return the ONNX file of a translator from pixels to pixels."""
    assert isinstance(translator, DeterministicTranslator)
    example = float_example(translator).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return to_onnx(trace(Pixels(translator), example), labels)


def to_onnx(program: ExportedProgram, labels: Mapping[str, str]) -> bytes:
    """Return a graph as an ONNX file with `labels` as its metadata.

    The batch, height and width are free, and nothing in it names a place on this machine.
    """
    import onnx
    from onnxscript import opset20

    def sym_max(first: Any, second: Any) -> Any:  # the exporter knows no torch.sym_max
        return opset20.Max(first, second)

    with quiet():
        exported = torch.onnx.export(
            program, dynamo=True, verbose=False, opset_version=20, input_names=["image"],
            output_names=["translation"], custom_translation_table={torch.sym_max: sym_max},
        )  # fmt: skip
    assert exported is not None
    model = exported.model_proto
    pixels = model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    axes = (1, 2) if pixels else (2, 3)
    for value in (*model.graph.input, *model.graph.output):
        sides = value.type.tensor_type.shape.dim
        for axis, name in zip((0, *axes), ("batch", "height", "width"), strict=True):
            sides[axis].dim_param = name
    del model.graph.value_info[:]
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output,
                 *model.graph.initializer):  # fmt: skip
        del part.metadata_props[:]
    onnx.helper.set_model_props(model, dict(labels))
    return model.SerializeToString()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters print, log and warn of from the terminal; errors pass."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
