"""Write a trained translator down in forms that run without this software, and check each of them.

A bundle is one folder for one direction. Every file in it has been run on real images of odd sizes and
compared with the translator itself before the folder gets its name; see `GATES` in deployment/parity.py.
"""

import contextlib
import copy
import functools
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from common.command import print_line
from common.errors import RunError, UserError, one_line
from common.files import file_sha256, write_atomically, write_text
from common.user_paths import parse_path
from deployment import graph_export, parity, quantization
from deployment.model_card import RUNNER, TEMPLATES, card, metrics_of
from deployment.wandb_bundle import log_bundle
from engine.provenance import provenance
from engine.runtime import RuntimeConfig
from inference.exported_bundle import (
    FORMAT,
    KIND,
    MANIFEST,
    WEIGHTS,
    Bundle,
    build_translator,
    is_bundle,
    read_weights,
    require,
)
from inference.open_run import Run, open_run
from inference.style_selection import select_style
from models.translator import DeterministicTranslator, FixedStyle, StyledTranslator
from options.config import ExportOptions, StyleOptions
from options.load import from_yaml, to_yaml

CARD = "README.md"
ONNX = ("onnx", "onnxscript", "onnxruntime")
PACKAGES = {"safetensors": ("safetensors",), "onnx": ONNX, "fp16": ONNX, "int8": ONNX, "pt2": ()}


def export(path: Path, options: ExportOptions) -> None:
    """Export the run at `path` and print where the bundles are."""
    require_packages(options.formats)
    # Plain kernels on the CPU, never compiled: the graph that is traced is the graph that is written.
    run = open_run(path, RuntimeConfig(device="cpu"), options.checkpoint, options.use_ema)
    for note in run.options.method.notes():
        print(f"note: {note}", file=sys.stderr)
    for folder in export_run(run, options):
        print_line(f"exported into {folder}")
        if options.artifacts:
            print_line(log_bundle(run, folder, folder.name))


def require_packages(formats: Sequence[str]) -> None:
    """Raise UserError with the command that installs them where a format's packages are missing."""
    require(*dict.fromkeys(package for name in formats for package in PACKAGES[name]))


def export_run(run: Run, options: ExportOptions) -> Iterator[Path]:
    """Write and check a bundle for each direction asked for; yield each folder once it is whole.

    The run is to be opened on the CPU with plain kernels. UserError where a direction or place cannot
    be, or where a checkpoint of the reference, which has no folder of its own, is given no place;
    RunError where a file differs from the translator: then nothing is written for that direction,
    and an earlier bundle stays.
    """
    require_packages(options.formats)
    if options.direction and options.direction not in run.translators:
        raise UserError(
            f"direction={options.direction}: this run has {' and '.join(run.translators)}"
        )
    if run.path.is_file() and not options.out:
        raise UserError(
            f"{run.path}: a checkpoint of the reference has no run folder; set out=FOLDER"
        )
    out = parse_path(options.out, "out") if options.out else run.path / "export"
    for direction in [options.direction] if options.direction else list(run.translators):
        _export(*with_fixed_style(run, direction, options.style), out / direction, options)
        yield out / direction


def with_fixed_style(
    run: Run, direction: str, options: StyleOptions
) -> tuple[Run, str, DeterministicTranslator]:
    """Return a run, its direction, and its translator in the style asked for, the usual one by default."""
    style, translator = select_style(run, direction, options), run.translators[direction]
    if isinstance(translator, StyledTranslator):
        with torch.no_grad():
            style = translator.mean_style() if style is None else style
        translator = FixedStyle(translator, style)
        run = replace(run, translators=run.translators | {direction: translator})
    if not isinstance(translator, DeterministicTranslator):
        raise UserError(
            f"method.name={run.options.method.name}: a translator that learns anew for every picture "
            "cannot be exported"
        )
    return run, direction, translator


def _export(
    run: Run, direction: str, translator: DeterministicTranslator, folder: Path,
    options: ExportOptions,
) -> None:  # fmt: skip
    if folder.exists() and not is_bundle(folder) and (folder.is_file() or any(folder.iterdir())):
        raise UserError(f"{folder} is no bundle, it would be overwritten; choose another out=")
    if own := foreign_files(folder):
        raise UserError(
            f"{folder} also holds {own[0]}, which an export did not write and this one would remove; "
            "move it, or choose another out="
        )
    building, old = (folder.with_name(f".{folder.name}.{word}") for word in ("partial", "old"))
    made = not folder.parent.exists()
    _tidied(folder, building, old)
    try:
        building.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"out={folder.parent}: cannot be made ({error.strerror}); name another place"
        ) from None
    try:
        writer = Writer(run, direction, translator, building, options.style)
        for name in dict.fromkeys(options.formats):
            print(f"{direction}: {name}", flush=True)
            writer.add(name)
        writer.describe(options.license)
        print(parity.table(writer.comparison.rows))
        for name, reason in writer.comparison.rejected.items():
            print(f"left out: {name}, {reason}")
        if folder.exists():
            folder.rename(old)
        building.rename(folder)
    except OSError as error:
        raise RunError(f"{folder}: could not be written ({one_line(error, 100)})") from None
    finally:
        _tidied(folder, building, old)
        if made:
            with contextlib.suppress(OSError):  # it holds a bundle
                folder.parent.rmdir()


def foreign_files(folder: Path) -> list[str]:
    """Return what stands in a bundle's folder and is neither of its export nor of its evaluation."""
    if not folder.is_dir():
        return []
    known = {MANIFEST, CARD, RUNNER, "test", *parity.GATES}
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in known)


def _tidied(folder: Path, building: Path, old: Path) -> None:
    """Leave a bundle under its name and nothing beside it, wherever an export was stopped."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    for rest in (building, old):
        shutil.rmtree(rest, ignore_errors=True)


class Writer:
    """A bundle while it is being made: files are added one format at a time, each checked at once."""

    def __init__(
        self, run: Run, direction: str, translator: DeterministicTranslator, folder: Path,
        style: StyleOptions,
    ) -> None:  # fmt: skip
        self.run = run
        self.direction = direction
        self.translator = translator
        self.folder = folder
        self.style = style
        self.notes: dict[str, dict[str, Any]] = {}  # file -> what the manifest says of it
        self.comparison = parity.Comparison(run, direction)

    def add(self, name: str) -> None:
        """Write one of the formats and check it; RunError where it is outside its gate."""
        {"safetensors": self._safetensors, "pt2": self._pt2, "onnx": self._onnx,
         "fp16": self._fp16, "int8": self._int8}[name]()  # fmt: skip

    @functools.cached_property
    def program(self) -> ExportedProgram:
        """The translator as a graph from floats to floats."""
        return graph_export.trace(
            graph_export.AnySize(self.translator), graph_export.float_example(self.translator)
        )

    def _safetensors(self) -> None:
        import safetensors.torch

        state = {name: value.contiguous() for name, value in self.translator.state_dict().items()}
        content = safetensors.torch.save(state, {"format": "pt", **self.labels()})
        path = self._write(WEIGHTS, content)
        # As a reader of the bundle will: from the options' text and the file.
        options = from_yaml(to_yaml(self.run.options), str(self.run.path))
        again = Bundle(
            self.folder, self.direction, self.translator.source, self.translator.target,
            self.run.step, self.run.weights, options, read_weights(path, file_sha256(path)), {},
        )  # fmt: skip
        self.comparison.check(path, build_translator(again))
        self.notes[WEIGHTS] = {
            "what": "the translator's weights, float32, under the names of its state dict",
        }

    def _pt2(self) -> None:
        path = self._write("model.pt2", graph_export.to_pt2(self.program))
        self.comparison.check(path, self.program.module())
        self.notes["model.pt2"] = {
            "what": "torch.export; loading such a file can run code: take it from people you trust",
            **graph_export.FLOATS,
        }

    def _onnx(self) -> None:
        self._graph("model_raw.onnx", graph_export.to_onnx(self.program, self.labels()))
        self.notes["model_raw.onnx"] = {"what": "ONNX, float32", **graph_export.FLOATS}
        self._graph("model.onnx", graph_export.pixel_graph(self.translator, self.labels()))
        self.notes["model.onnx"] = {"what": "ONNX, float32 inside", **graph_export.PIXELS}

    def _fp16(self) -> None:
        half = copy.deepcopy(self.translator).half()
        self._graph("model_fp16.onnx", graph_export.pixel_graph(half, self.labels()))
        self.notes["model_fp16.onnx"] = {"what": "ONNX, float16 inside", **graph_export.PIXELS}

    def _int8(self) -> None:
        path, whole = self.folder / "model_int8.onnx", self.folder / "model.onnx"
        found = whole.read_bytes() if whole.exists() else None
        graph = found or graph_export.pixel_graph(self.translator, self.labels())
        images = parity.real_images(
            self.run, self.translator.source, "train", quantization.CALIBRATION
        )
        recipe = quantization.write_int8(graph, path, images, self.comparison)
        if recipe:
            self.notes[path.name] = {"what": f"ONNX, {recipe.what}", **graph_export.PIXELS}

    def _graph(self, name: str, content: bytes) -> None:
        path = self._write(name, content)
        self.comparison.check(path, parity.onnx_runner(path))

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        write_atomically(path, lambda file: file.write(content))
        return path

    def labels(self) -> dict[str, str]:
        """Return what every file says of itself, as texts."""
        return {
            "direction": self.direction, "source": self.translator.source,
            "target": self.translator.target, "method": self.run.options.method.name,
            "step": str(self.run.step), "weights": self.run.weights,
            "normalisation": "x / 127.5 - 1",
        }  # fmt: skip

    def describe(self, license: str) -> None:
        """Write the runner, the model card and, last, the manifest; RunError where there is no model."""
        rows, rejected = self.comparison.rows, self.comparison.rejected
        if not rows:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in rejected.items())
            raise RunError(f"{self.direction}: nothing was exported ({reasons})")
        if any(name.endswith(".onnx") for name in self.notes):
            self._write(RUNNER, (TEMPLATES / RUNNER).read_bytes())
            self.notes[RUNNER] = {"what": "translates pictures; needs onnxruntime, numpy, Pillow"}
        made_by = provenance()
        made_by["packages"] |= {name: _version(name) for name in ("safetensors", *ONNX)}
        manifest = {
            "kind": KIND, "format": FORMAT, "direction": self.direction,
            "source": self.translator.source, "target": self.translator.target,
            "step": self.run.step, "weights": self.run.weights, "license": license,
            "images": {
                "in_channels": self.translator.in_channels,
                "out_channels": self.translator.out_channels, "range": [-1, 1],
                "normalisation": "x / 127.5 - 1", "multiple": self.translator.multiple,
                "minimum": self.translator.minimum,
                "padding": "below and to the right, by reflection (the edge where it is too small)",
            },
            "method": asdict(self.run.options.method), "options": to_yaml(self.run.options),
            "style": asdict(self.style) if isinstance(self.translator, FixedStyle) else None,
            "metrics": metrics_of(self.run, self.direction),
            "parity": {
                "images": self.comparison.images_are, "batches": parity.BATCHES,
                "sizes": [f"{height}x{width}" for height, width in parity.SIZES],
                "threads": torch.get_num_threads(), "files": [asdict(row) for row in rows],
                "rejected": rejected,
            },
            "provenance": made_by,
        }  # fmt: skip
        write_text(self.folder / CARD, card(self.run, manifest, self.notes))
        self.notes[CARD] = {"what": "the model card"}
        manifest["files"] = {
            name: {
                "sha256": file_sha256(self.folder / name),
                "bytes": (self.folder / name).stat().st_size, **note,
            }
            for name, note in self.notes.items()
        }  # fmt: skip
        write_text(self.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
