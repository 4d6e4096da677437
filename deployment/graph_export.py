"""Trace a translator and write it as a graph that runs without this software: torch.export or ONNX.

Padding is expressed with tensor indices, since tracing would freeze a Python branch on the image
size.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as export_config

from data.values.value_range import DomainFormat
from models.translator import DeterministicTranslator, Translator

FLOAT_SIGNATURE = {"input": "float32 [batch, channels, height, width] in [-1, 1]",
          "output": "float32 [batch, channels, height, width] in [-1, 1]"}  # fmt: skip


def array_signature(source: DomainFormat, target: DomainFormat) -> dict[str, str]:
    """Return what a graph from arrays to arrays takes and gives, for the manifest."""

    def text(form: DomainFormat) -> str:
        kind = "float32" if form.has_range else "uint8"
        units = ", values of the files" if form.has_range else ""
        return f"{kind} [batch, height, width, channels]{units}"

    return {"input": text(source), "output": text(target)}


class AnySizeTranslator(nn.Module):
    """A traceable translator: the padding and cropping for any image size as tensor operations."""

    def __init__(self, translator: DeterministicTranslator) -> None:
        super().__init__()
        self.generator = translator.generator
        self.multiple = translator.multiple
        self.minimum = translator.minimum

    def forward(self, image: Tensor) -> Tensor:
        """Translate float [B, C, H, W] in [-1, 1]; computed in the precision of the generator."""
        height, width = image.shape[-2:]
        padded_height, padded_width = self.padded_side(height), self.padded_side(width)
        by_reflection = (_as_tensor(padded_height) < 2 * height) & (
            _as_tensor(padded_width) < 2 * width
        )
        rows = _padding_indices(padded_height, height, by_reflection)
        columns = _padding_indices(padded_width, width, by_reflection)
        padded = image.index_select(2, rows).index_select(3, columns)
        result = self.generator(padded.to(next(self.generator.parameters()).dtype))
        # With a slice, the exporter would add a guard on the size of the example.
        cropped = result.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))
        return cropped.to(image.dtype)

    def padded_side(self, side: int) -> Any:
        """Return the side that models.translator pads to, as an expression of a symbolic `side`."""
        at_least = torch.sym_max(side, self.minimum)
        return (at_least + self.multiple - 1) // self.multiple * self.multiple


class ArrayTranslator(nn.Module):
    """A traceable translator between the arrays of two domains.

    Arrays are uint8 pixels, or float32 in the units of a domain with a range.
    """

    def __init__(
        self, translator: DeterministicTranslator, source: DomainFormat, target: DomainFormat
    ) -> None:
        super().__init__()
        self.translate = AnySizeTranslator(translator)
        self.source = source
        self.target = target

    def forward(self, pixels: Tensor) -> Tensor:
        """Translate [B, H, W, C], with the arithmetic of data/tensors.py; NaN is the low end."""
        planes = pixels.permute(0, 3, 1, 2).float()
        if self.source.low is not None and self.source.span is not None:
            unit = (planes - self.source.low) / self.source.span
            image = torch.where(unit.isnan(), 0.0, unit).clamp(0.0, 1.0) * 2.0 - 1.0
        else:
            image = planes / 127.5 - 1.0
        fake = self.translate(image) + 1.0
        if self.target.low is not None and self.target.span is not None:
            values = (fake * 0.5).clamp(0.0, 1.0) * self.target.span + self.target.low
            return values.permute(0, 2, 3, 1)
        levels = (fake * 127.5).round().clamp(0, 255)
        return levels.to(torch.uint8).permute(0, 2, 3, 1)


def _as_tensor(side: Any) -> Tensor:
    """Return a symbolic side as a tensor, whose comparison is not decided while tracing."""
    return torch.scalar_tensor(side, dtype=torch.int64)


def _padding_indices(padded_side: Any, side: Any, by_reflection: Tensor) -> Tensor:
    """Return `padded_side` indices into 0 .. side - 1 that pad by reflection, else by the last."""
    index, last = torch.arange(padded_side), side - 1
    return torch.where(by_reflection, last - (index - last).abs(), index.clamp(max=last))


def float_example(translator: Translator) -> Tensor:
    """Return zeros to trace with; both sides need padding, so that the graph contains it."""
    return torch.zeros(2, translator.in_channels, 21, 27)


def trace(module: nn.Module, example: Tensor) -> ExportedProgram:
    """Return the graph of a module for every batch size, height and width of 1 and more."""
    axes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    if isinstance(module, ArrayTranslator):
        axes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    # Otherwise the graph holds only for the case of the example: a U-Net's innermost features have
    # one pixel or several, and the exporter decides by 1 what broadcasts.
    patch = export_config.patch  # pyright: ignore[reportAttributeAccessIssue]
    with quiet(), patch(backed_size_oblivious=True):
        program = torch.export.export(module, (example,), dynamic_shapes=(axes,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains paths of this machine
    return program


def to_pt2(program: ExportedProgram) -> bytes:
    """Return a graph as the bytes of a torch.export file (.pt2)."""
    encoded = io.BytesIO()
    with quiet():
        torch.export.save(program, encoded)
    return encoded.getvalue()


def array_graph(
    translator: Translator, source: DomainFormat, target: DomainFormat, metadata: Mapping[str, str]
) -> bytes:
    """Return the bytes of the ONNX file of a translator from arrays to arrays, with `metadata`."""
    assert isinstance(translator, DeterministicTranslator)
    example = float_example(translator).permute(0, 2, 3, 1).contiguous()
    if not source.has_range:
        example = example.to(torch.uint8)
    facts = {"layout": "NHWC", "source_format": _json(source), "target_format": _json(target)}
    program = trace(ArrayTranslator(translator, source, target), example)
    return to_onnx(program, {**metadata, **facts}, channels_last=True)


def _json(form: DomainFormat) -> str:
    return json.dumps(asdict(form))


def to_onnx(
    program: ExportedProgram, metadata: Mapping[str, str], channels_last: bool = False
) -> bytes:
    """Return a graph as the bytes of an ONNX file with `metadata`.

    Batch size, height and width are dynamic. The file contains no path of this machine.
    """
    import onnx
    from onnxscript import opset20

    def sym_max(first: Any, second: Any) -> Any:  # the exporter does not translate torch.sym_max
        return opset20.Max(first, second)

    with quiet():
        exported = torch.onnx.export(
            program, dynamo=True, verbose=False, opset_version=20, input_names=["image"],
            output_names=["translation"], custom_translation_table={torch.sym_max: sym_max},
        )  # fmt: skip
    assert exported is not None
    model = exported.model_proto
    axes = (1, 2) if channels_last else (2, 3)
    for value in (*model.graph.input, *model.graph.output):
        sides = value.type.tensor_type.shape.dim
        for axis, name in zip((0, *axes), ("batch", "height", "width"), strict=True):
            sides[axis].dim_param = name
    del model.graph.value_info[:]
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output,
                 *model.graph.initializer):  # fmt: skip
        del part.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    return model.SerializeToString()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence prints, log lines and warnings of the exporters; errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
