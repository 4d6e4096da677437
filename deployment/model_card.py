"""The model card of a bundle: what a person must know before using it."""

import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from data.config import DataConfig
from deployment.parity import BATCHES, Parity, cells
from inference.exported_bundle import WEIGHTS
from inference.open_run import Run

TEMPLATES = Path(__file__).parent / "templates"
RUNNER = "run_onnx.py"


def metrics_of(run: Run, direction: str) -> dict[str, Any] | None:
    """Return what test.py measured for a direction, with its protocol; None where it did not."""
    path = run.path / "test" / "metrics.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {"figures": content["directions"][direction], "protocol": content["protocol"]}
    except (OSError, ValueError, KeyError, TypeError):
        print(f"note: {path} is damaged; the bundle has no figures from test.py")
        return None


def card(run: Run, manifest: Mapping[str, Any], notes: Mapping[str, Mapping[str, str]]) -> str:
    """Return the model card: a YAML head as Hugging Face reads it, and what a person must know."""
    parity, made_by = manifest["parity"], manifest["provenance"]
    formats = sorted({Path(name).suffix[1:] for name in notes} - {"py"})
    lines = [("file", "MB", "max difference", "PSNR", "ms"), ("---",) * 5]
    lines += [cells(Parity(**row)) for row in parity["files"]]
    text = Template((TEMPLATES / "model_card.md").read_text(encoding="utf-8"))
    return text.substitute(
        {key: manifest[key] for key in ("license", "source", "target", "weights")},
        library="pytorch" if {WEIGHTS, "model.pt2"} & notes.keys() else "onnx",
        method=manifest["method"]["name"],
        tags="".join(f"- {name}\n" for name in formats),
        metrics=_metrics_head(manifest["metrics"]),
        step=f"{manifest['step']:,}",
        how="\n\n".join(_ways(notes)),
        multiple=manifest["images"]["multiple"],
        minimum=manifest["images"]["minimum"],
        files="\n".join(f"| `{name}` | {note['what']} |" for name, note in notes.items()),
        data=_data(run.options.data),
        numbers=_numbers(manifest["metrics"]),
        images=parity["images"],
        sizes=", ".join(parity["sizes"]),
        batches=" and ".join(map(str, BATCHES)),
        torch=made_by["packages"]["torch"],
        threads=parity["threads"],
        parity="\n".join(f"| {' | '.join(line)} |" for line in lines),
        rejected="".join(f"\nLeft out: `{n}`: {why}.\n" for n, why in parity["rejected"].items()),
        crop=run.options.data.crop_size,
        cautions="".join(f"- {note}\n" for note in run.options.method.notes()),
        commit=made_by["git_commit"],
    )


def _ways(files: Container[str]) -> Iterator[str]:
    """Yield how each kind of file is run."""
    if RUNNER in files:
        yield "Without PyTorch (`pip install onnxruntime numpy pillow`), a picture or a folder of them:"
        yield f"    python {RUNNER} PICTURES OUTPUT"
    if WEIGHTS in files:
        yield "With the software that trained it:"
        yield "    python translate.py THIS_FOLDER PICTURES OUTPUT"
    if "model.pt2" in files:
        yield "In PyTorch alone. Loading a `.pt2` file can run code, so mind where it comes from:"
        yield '    translated = torch.export.load("model.pt2").module()(image)  # [B, C, H, W]'


def _data(data: DataConfig) -> str:
    if not data.root and not data.train:  # a checkpoint of the reference
        return "Not known: the weights came without the options that they were trained with."
    sides = {"stretch": f"stretched to {data.load_size}x{data.load_size}",
             "short_side": f"resized to a short side of {data.load_size}", "crop": "not resized"}  # fmt: skip
    folder = Path(data.root).name or "two folders of its own"
    return (
        f"Two unpaired sets, {' and '.join(data.domains)}, from `{folder}`: {sides[data.fit]}, random "
        f"squares of {data.crop_size} pixels{', half of them mirrored' if data.flip else ''}."
    )


def _metrics_head(metrics: Mapping[str, Any] | None) -> str:
    measured = (
        [] if metrics is None else [n for n, v in metrics["figures"].items() if v is not None]
    )
    names = [name for name in ("psnr", "ssim") if any(n.endswith(name) for n in measured)]
    return "".join(["metrics:\n", *(f"- {name}\n" for name in names)]) if names else ""


def _numbers(metrics: Mapping[str, Any] | None) -> str:
    if metrics is None:
        return "None: test.py had not been run."
    figures = "\n".join(
        f"| {name} | {round(value, 4)} |" for name, value in metrics["figures"].items()
        if isinstance(value, int | float)
    )  # fmt: skip
    protocol = ", ".join(
        f"{name} {json.dumps(value)}" for name, value in metrics["protocol"].items()
    )
    return (
        f"| figure | value |\n|---|---|\n{figures}\n\nOn held-out images, by test.py: {protocol}."
    )
