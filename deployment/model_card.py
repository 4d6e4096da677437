"""Write the model card of a bundle: what a user must know about the model."""

import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from common.files import read_json
from data.config import DataConfig
from deployment.parity import BATCHES, Parity, table_cells
from inference.exported_bundle import WEIGHTS
from inference.open_run import Run

TEMPLATES = Path(__file__).parent / "templates"
RUNNER = "run_onnx.py"


def metrics_of(run: Run, direction: str) -> dict[str, Any] | None:
    """Return the metrics of a direction and their protocol as test.py wrote them, else None."""
    path = run.path / "test" / "metrics.json"
    if not path.exists():
        return None
    try:
        content = read_json(path)
        protocol = dict(content["protocol"]) | dict(content.get("protocols", {}).get(direction, {}))
        return {"figures": content["directions"][direction], "protocol": protocol}
    except (OSError, ValueError, KeyError, TypeError):
        print(f"note: {path} is damaged; the bundle is written without metrics; run test.py again")
        return None


def model_card(
    run: Run, manifest: Mapping[str, Any], notes: Mapping[str, Mapping[str, str]]
) -> str:
    """Return the model card in Markdown, with the YAML front matter that Hugging Face reads.

    `manifest` is the content of manifest.json without its files, `notes` maps the name of a file to
    its description under "what".
    """
    parity, provenance = manifest["parity"], manifest["provenance"]
    formats = sorted({Path(name).suffix[1:] for name in notes} - {"py"})
    rows = [("file", "MB", "max difference", "PSNR", "ms"), ("---",) * 5]
    rows += [table_cells(Parity(**row)) for row in parity["files"]]
    text = Template((TEMPLATES / "model_card.md").read_text(encoding="utf-8"))
    return text.substitute(
        {key: manifest[key] for key in ("license", "source", "target", "weights")},
        library="pytorch" if {WEIGHTS, "model.pt2"} & notes.keys() else "onnx",
        method=manifest["method"]["name"],
        tags="".join(f"- {name}\n" for name in formats),
        metrics=_front_matter_metrics(manifest["metrics"]),
        step=f"{manifest['step']:,}",
        how="\n\n".join(_usage(notes)),
        multiple=manifest["images"]["multiple"],
        minimum=manifest["images"]["minimum"],
        files="\n".join(f"| `{name}` | {note['what']} |" for name, note in notes.items()),
        data=_training_data(run.options.data),
        numbers=_metrics_table(manifest["metrics"]),
        images=parity["images"],
        sizes=", ".join(parity["sizes"]),
        batches=" and ".join(map(str, BATCHES)),
        torch=provenance["packages"]["torch"],
        threads=parity["threads"],
        parity="\n".join(f"| {' | '.join(row)} |" for row in rows),
        rejected="".join(
            f"\nLeft out: `{n}`: {reason}.\n" for n, reason in parity["rejected"].items()
        ),
        crop=run.options.data.crop_size,
        cautions="".join(f"- {note}\n" for note in run.options.method.notes()),
        commit=provenance["git_commit"],
    )


def _usage(files: Container[str]) -> Iterator[str]:
    """Yield the paragraphs that explain how to run each kind of file."""
    if RUNNER in files:
        yield "Without PyTorch (`pip install onnxruntime numpy pillow`), one image or a folder:"
        yield f"    python {RUNNER} PICTURES OUTPUT"
    if WEIGHTS in files:
        yield "With the software that trained the model:"
        yield "    python translate.py THIS_FOLDER PICTURES OUTPUT"
    if "model.pt2" in files:
        yield "In PyTorch alone (loading a `.pt2` file can run code: load only what you trust):"
        yield '    translated = torch.export.load("model.pt2").module()(image)  # [B, C, H, W]'


def _training_data(data: DataConfig) -> str:
    """Return how the model was trained on which images."""
    if not data.root and not data.train:  # a checkpoint of the CycleGAN repository
        return "Not known: the weights came without the options that they were trained with."
    resizing = {
        "stretch": f"stretched to {data.load_size}x{data.load_size}",
        "short_side": f"resized to a short side of {data.load_size}",
        "crop": "not resized",
    }
    folder = Path(data.root).name or "two folders of its own"
    return (
        f"Two unpaired sets, {' and '.join(data.domains)}, from `{folder}`: {resizing[data.fit]}, "
        f"random crops of {data.crop_size}x{data.crop_size} pixels"
        f"{', half of them mirrored' if data.flip else ''}."
    )


def _front_matter_metrics(metrics: Mapping[str, Any] | None) -> str:
    """Return the `metrics` entry of the front matter; empty where test.py measured none of them."""
    measured = (
        [] if metrics is None else [n for n, v in metrics["figures"].items() if v is not None]
    )
    names = [name for name in ("psnr", "ssim") if any(n.endswith(name) for n in measured)]
    return "".join(["metrics:\n", *(f"- {name}\n" for name in names)]) if names else ""


def _metrics_table(metrics: Mapping[str, Any] | None) -> str:
    """Return the metrics of test.py and their protocol in Markdown."""
    if metrics is None:
        return "None: test.py had not been run before the export."
    rows = "\n".join(
        f"| {name} | {round(value, 4)} |" for name, value in metrics["figures"].items()
        if isinstance(value, int | float)
    )  # fmt: skip
    protocol = ", ".join(
        f"{name} {json.dumps(value)}" for name, value in metrics["protocol"].items()
    )
    return f"| metric | value |\n|---|---|\n{rows}\n\nOn held-out images, by test.py: {protocol}."
