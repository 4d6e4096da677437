"""Export a trained translator as files that run without this software, and check each of them.

A bundle is one folder for one direction. Every model file in it has been run on real images of odd
sizes and compared with the translator before the folder gets its name; see `GATES` in
deployment/parity.py.
"""

import contextlib
import copy
import functools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from common.errors import RunError, UserError, one_line
from common.files import file_sha256, remove_leftover, write_atomically, write_text
from common.run_main import print_line
from common.user_paths import parse_path
from deployment import graph_export, parity, quantization
from deployment.model_card import RUNNER, TEMPLATES, metrics_of, model_card
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
# Format -> the packages that write and check it.
PACKAGES = {"safetensors": ("safetensors",), "onnx": ONNX, "fp16": ONNX, "int8": ONNX, "pt2": ()}


def export(path: Path, options: ExportOptions) -> None:
    """Export the run at `path`, print the folders of the bundles, and upload them if requested."""
    require_packages(options.formats)
    # Tracing needs the plain modules: on the CPU they are neither compiled nor replaced by kernels.
    run = open_run(path, RuntimeConfig(device="cpu"), options.checkpoint, options.use_ema)
    for note in run.options.method.notes():
        print(f"note: {note}", file=sys.stderr)
    for folder in export_run(run, options):
        print_line(f"exported into {folder}")
        if options.artifacts:
            print_line(log_bundle(run, folder, folder.name))


def require_packages(formats: Sequence[str]) -> None:
    """Raise UserError with the install command where a package of a format is missing."""
    require(*dict.fromkeys(package for name in formats for package in PACKAGES[name]))


def export_run(run: Run, options: ExportOptions) -> Iterator[Path]:
    """Write and check a bundle for each requested direction; yield each folder once it is complete.

    `run` must be opened on the CPU with plain kernels. UserError where the direction does not
    exist, the translator cannot be exported, the folder cannot be made or has other content, or
    where `out` is missing for a checkpoint of the CycleGAN repository, which has no run folder.
    RunError where a file differs from the translator: then nothing is written for that direction,
    and an earlier bundle stays.
    """
    require_packages(options.formats)
    if options.direction and options.direction not in run.translators:
        raise UserError(
            f"direction={options.direction} does not exist; "
            f"choose one of {' and '.join(run.translators)}",
            option="direction",
        )
    if run.path.is_file() and not options.out:
        raise UserError(
            f"{run.path}: a checkpoint of the CycleGAN repository has no run folder; "
            "set out=FOLDER",
            option="out",
            path=run.path,
        )
    out = parse_path(options.out, "out") if options.out else run.path / "export"
    for direction in [options.direction] if options.direction else list(run.translators):
        _export_direction(
            *with_fixed_style(run, direction, options.style), out / direction, options
        )
        yield out / direction


def with_fixed_style(
    run: Run, direction: str, options: StyleOptions
) -> tuple[Run, str, DeterministicTranslator]:
    """Return the run, the direction, and its translator with a fixed style where it has styles.

    The style is that of `options`, or the mean style. UserError where the translator is not a
    function of its input alone: it is trained anew for every image.
    """
    style, translator = select_style(run, direction, options), run.translators[direction]
    if isinstance(translator, StyledTranslator):
        with torch.no_grad():
            style = translator.mean_style() if style is None else style
        translator = FixedStyle(translator, style)
        run = replace(run, translators=run.translators | {direction: translator})
    if not isinstance(translator, DeterministicTranslator):
        raise UserError(
            f"method.name={run.options.method.name} cannot be exported, since it trains for every "
            "image; use translate.py",
            option="method.name",
            path=run.path,
        )
    return run, direction, translator


def _export_direction(
    run: Run, direction: str, translator: DeterministicTranslator, folder: Path,
    options: ExportOptions,
) -> None:  # fmt: skip
    """Write a bundle next to `folder`, and put it in its place once every file is checked."""
    if folder.exists() and not is_bundle(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} is not a bundle and would be overwritten; choose another out=",
            option="out", path=folder,
        )  # fmt: skip
    if unknown := unknown_files(folder):
        raise UserError(
            f"{folder} also holds {unknown[0]}, which no export wrote and this one would remove; "
            "move it, or choose another out=",
            option="out", path=folder,
        )  # fmt: skip
    partial, old = (folder.with_name(f".{folder.name}.{word}") for word in ("partial", "old"))
    parent_is_new = not folder.parent.exists()
    _restore_bundle(folder, partial, old)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"out={folder.parent}: cannot be made ({error.strerror}); name another folder",
            option="out", path=folder.parent,
        ) from None  # fmt: skip
    try:
        writer = BundleWriter(run, direction, translator, partial, options.style)
        for name in dict.fromkeys(options.formats):
            print(f"{direction}: {name}", flush=True)
            writer.add(name)
        writer.describe(options.license)
        print(parity.parity_table(writer.parity_check.rows))
        for name, reason in writer.parity_check.rejected.items():
            print(f"left out: {name}, {reason}")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except OSError as error:
        raise RunError(f"{folder}: could not be written ({one_line(error, 100)})") from None
    finally:
        _restore_bundle(folder, partial, old)
        if parent_is_new:
            with contextlib.suppress(OSError):  # it is not empty: it holds a bundle
                folder.parent.rmdir()


def unknown_files(folder: Path) -> list[str]:
    """Return the names in a bundle's folder that neither export.py nor test.py writes."""
    if not folder.is_dir():
        return []
    known = {MANIFEST, CARD, RUNNER, "test", *parity.GATES}
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in known)


def _restore_bundle(folder: Path, partial: Path, old: Path) -> None:
    """Rename an earlier bundle back if it has no successor, and remove what an export left over."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    for leftover in (partial, old):
        remove_leftover(leftover)


class BundleWriter:
    """Writes a bundle into a folder, one format after the other, and checks each file at once."""

    def __init__(
        self, run: Run, direction: str, translator: DeterministicTranslator, folder: Path,
        style: StyleOptions,
    ) -> None:  # fmt: skip
        self.run = run
        self.direction = direction
        self.translator = translator
        self.folder = folder
        self.style = style
        self.notes: dict[str, dict[str, Any]] = {}  # file -> its entry in the manifest
        self.parity_check = parity.ParityCheck(run, direction)

    def add(self, name: str) -> None:
        """Write the files of a format and check them; RunError where one exceeds its gate."""
        {"safetensors": self._safetensors, "pt2": self._pt2, "onnx": self._onnx,
         "fp16": self._fp16, "int8": self._int8}[name]()  # fmt: skip

    @functools.cached_property
    def program(self) -> ExportedProgram:
        """The translator as a traced graph from floats to floats."""
        return graph_export.trace(
            graph_export.AnySizeTranslator(self.translator),
            graph_export.float_example(self.translator),
        )

    def _safetensors(self) -> None:
        import safetensors.torch

        state = {name: value.contiguous() for name, value in self.translator.state_dict().items()}
        content = safetensors.torch.save(state, {"format": "pt", **self.metadata()})
        path = self._write(WEIGHTS, content)
        # Built again as a reader of the bundle will: from the text of the options and the file.
        options = from_yaml(to_yaml(self.run.options), str(self.run.path))
        bundle = Bundle(
            self.folder, self.direction, self.translator.source, self.translator.target,
            self.run.step, self.run.weights, options, read_weights(path, file_sha256(path)), {},
        )  # fmt: skip
        self.parity_check.check(path, build_translator(bundle))
        self.notes[WEIGHTS] = {
            "what": "the translator's weights, float32, under the names of its state dict",
        }

    def _pt2(self) -> None:
        path = self._write("model.pt2", graph_export.to_pt2(self.program))
        self.parity_check.check(path, self.program.module())
        self.notes["model.pt2"] = {
            "what": "torch.export; loading it can run code, so load only files that you trust",
            **graph_export.FLOAT_SIGNATURE,
        }

    def _onnx(self) -> None:
        self._graph("model_raw.onnx", graph_export.to_onnx(self.program, self.metadata()))
        self.notes["model_raw.onnx"] = {"what": "ONNX, float32", **graph_export.FLOAT_SIGNATURE}
        self._graph("model.onnx", self._array_graph(self.translator))
        self.notes["model.onnx"] = {"what": "ONNX, float32 inside", **self.signature()}

    def _fp16(self) -> None:
        half = copy.deepcopy(self.translator).half()
        self._graph("model_fp16.onnx", self._array_graph(half))
        self.notes["model_fp16.onnx"] = {
            "what": "ONNX, float16 inside",
            **self.signature(),
        }

    def _int8(self) -> None:
        path, float_path = self.folder / "model_int8.onnx", self.folder / "model.onnx"
        written = float_path.read_bytes() if float_path.exists() else None
        graph = written or self._array_graph(self.translator)
        images = parity.real_images(
            self.run, self.translator.source, "train", quantization.CALIBRATION_IMAGES
        )
        recipe = quantization.write_int8(graph, path, images, self.parity_check)
        if recipe:
            self.notes[path.name] = {
                "what": f"ONNX, {recipe.description}",
                **self.signature(),
            }

    def signature(self) -> dict[str, str]:
        """Return what the graphs from arrays to arrays take and give, for the manifest."""
        return graph_export.array_signature(self.parity_check.source, self.parity_check.target)

    def _array_graph(self, translator: DeterministicTranslator) -> bytes:
        check = self.parity_check
        return graph_export.array_graph(translator, check.source, check.target, self.metadata())

    def _graph(self, name: str, content: bytes) -> None:
        path = self._write(name, content)
        self.parity_check.check(path, self.parity_check.onnx_runner(path))

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        write_atomically(path, lambda file: file.write(content))
        return path

    def metadata(self) -> dict[str, str]:
        """Return the facts that every model file holds as its metadata."""
        return {
            "direction": self.direction, "source": self.translator.source,
            "target": self.translator.target, "method": self.run.options.method.name,
            "step": str(self.run.step), "weights": self.run.weights,
            "normalisation": "x / 127.5 - 1",
        }  # fmt: skip

    def describe(self, license: str) -> None:
        """Write runner, model card and, last, the manifest; RunError without a model file."""
        rows, rejected = self.parity_check.rows, self.parity_check.rejected
        if not rows:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in rejected.items())
            raise RunError(f"{self.direction}: nothing was exported ({reasons})")
        if any(name.endswith(".onnx") for name in self.notes):
            self._write(RUNNER, (TEMPLATES / RUNNER).read_bytes())
            self.notes[RUNNER] = {"what": "translates images; needs onnxruntime, numpy, Pillow"}
        facts = provenance()
        facts["packages"] |= {name: _version(name) for name in ("safetensors", *ONNX)}
        manifest = {
            "kind": KIND, "format": FORMAT, "direction": self.direction,
            "source": self.translator.source, "target": self.translator.target,
            "step": self.run.step, "weights": self.run.weights, "license": license,
            "images": {
                "in_channels": self.translator.in_channels,
                "out_channels": self.translator.out_channels, "range": [-1, 1],
                "normalisation": "x / 127.5 - 1", "multiple": self.translator.multiple,
                "minimum": self.translator.minimum,
                "source_format": asdict(self.parity_check.source),
                "target_format": asdict(self.parity_check.target),
                "padding": "below and to the right, by reflection (the edge where it is too small)",
            },
            "method": asdict(self.run.options.method), "options": to_yaml(self.run.options),
            "style": asdict(self.style) if isinstance(self.translator, FixedStyle) else None,
            "metrics": metrics_of(self.run, self.direction),
            "parity": {
                "images": self.parity_check.sample_source, "batches": parity.BATCHES,
                "sizes": [f"{height}x{width}" for height, width in parity.SIZES],
                "threads": torch.get_num_threads(), "files": [asdict(row) for row in rows],
                "rejected": rejected,
            },
            "provenance": facts,
        }  # fmt: skip
        write_text(self.folder / CARD, model_card(self.run, manifest, self.notes))
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
