"""Write the report of an evaluation as one self-contained HTML file."""

import base64
import html
import io
import json
import shlex
import sys
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.curve_charts import curve_chart
from common.files import write_text
from engine.previews import to_rgb
from evaluation.results import DirectionResult, EvaluatedImage, EvaluationResult
from inference.open_run import Run
from options.load import to_yaml
from training.metrics_log import read_rows

PAGE = Template((Path(__file__).parent / "templates/report.html").read_text(encoding="utf-8"))
# Metric -> its title, and how to read it.
FIGURES = {
    "truth_psnr": ("PSNR to the truth", "dB, higher is better"),
    "truth_ssim": ("SSIM to the truth", "0 to 1, higher is better"),
    "truth_ms_ssim": ("MS-SSIM to the truth", "0 to 1, higher is better"),
    "truth_ciede2000": ("colour difference to the truth", "CIEDE2000, about 1 is just visible"),
    "truth_mae": ("mean absolute error to the truth", "in the units of the files, lower is better"),
    "truth_lpips": ("LPIPS to the true translation", "lower looks more alike"),
    "copy_psnr": ("PSNR of the input copied", "dB, to beat"),
    "fid": ("FID", "Inception, lower is better"),
    "kid": ("KID", "Inception, lower is better"),
    "mifid": ("MiFID", "FID, worse where training images are copied"),
    "precision": ("precision", "0 to 1: fakes that look real"),
    "recall": ("recall", "0 to 1: real images that are covered"),
    "density": ("density", "fakes among real images, about 1"),
    "coverage": ("coverage", "0 to 1: real images with a fake nearby"),
    "swd": ("sliced Wasserstein distance", "x 1000, lower is nearer to real images"),
    "color": ("distance of colours", "8-bit levels, lower is nearer"),
    "spectrum": ("distance of spectra", "dB, lower is nearer"),
    "own_source": ("own source found", "share of fakes whose edges are most like their own input"),
    "cycle_psnr": ("PSNR of the restored input", "dB, higher is better"),
    "cycle_l1": ("L1 of the restored input", "0 to 2, lower is better"),
    "edges": ("edges kept", "-1 to 1, higher is more faithful"),
    "structure": ("structure kept", "0 to 1, higher is more faithful"),
    "steganography": ("hidden signal", "dB lost by the restored input when the fake is disturbed"),
    "inverted": ("inverted brightness", "share of the images"),
    "diversity": ("diversity", "0 to 2, L1 between styles of one image"),
    "style_followed": ("style followed", "0.5 is chance, 1 always"),
    "checkerboard": ("checkerboard", "about 1: no grid"),
    "dead_tiles": ("dead tiles", "share that is black, white or burnt out"),
    "copies": ("copied training images", "fakes that are copies"),
    "images": ("held-out images", ""),
}
# Metrics shown next to an image's name; the others are shown when it is unfolded.
MAIN_METRICS = ("truth_psnr", "truth_ssim", "structure", "cycle_psnr")
WORST_TITLES = {
    "cycle_psnr": "worst restored", "structure": "least structure kept",
    "truth_psnr": "farthest from the truth", "checkerboard": "most checkerboard",
}  # fmt: skip
MAX_DRAWN = 1e30  # larger values, infinities and NaN are not drawn
NOT_DRAWN = {"step", "images", "epoch", "seconds", "learning_rate"}  # keys of metrics.jsonl


def write_report(run: Run, result: EvaluationResult) -> Path:
    """Write RUN/test/report.html and return its path."""
    path = run.path / "test" / "report.html"
    sections = "\n".join(
        _section(run, direction, each) for direction, each in result.directions.items()
    )
    page = PAGE.substitute(
        title=html.escape(run.path.resolve().name),
        method=html.escape(run.options.method.name),
        step=f"{run.step:,}",
        weights="moving average of the weights (EMA)" if run.weights == "ema" else "last weights",
        sections=sections,
        leaks=_pairs_table(result.leaks[:50], "Pictures that are in two folders of the data"),
        command=html.escape(
            f"python train.py {shlex.quote(str(run.path / 'options.yaml'))} run=runs/again"
        ),
        protocol=html.escape(
            "".join(f"{note}\n" for note in run.options.method.notes())
            + json.dumps(
                {**result.protocol, **{n: x.protocol for n, x in result.directions.items()}},
                indent=1,
            )
        ),
        options=html.escape(to_yaml(run.options)),
        curves=_curves(run.path / "metrics.jsonl") or "too few steps were logged to draw a curve",
    )
    write_text(path, page)
    return path


def _section(run: Run, direction: str, result: DirectionResult) -> str:
    """Return the section of a direction: metrics, images, style sheet, worst images, copies."""
    translator, metrics = run.translators[direction], result.metrics
    source, target = html.escape(translator.source), html.escape(translator.target)
    cards = "".join(_metric_card(key, result) for key in FIGURES if metrics.get(key) is not None)
    count = (
        f"{len(result.shown)} of {metrics['images']} shown"
        if len(result.shown) < metrics["images"]
        else "all shown"
    )
    images = "\n".join(_image_article(image, source, target) for image in result.shown)
    worst = "\n".join(
        f"<h3>{WORST_TITLES[metric]}</h3>"
        + "\n".join(_image_article(image, source, target) for image in worst_images)
        for metric, worst_images in result.worst.items()
    )
    return (
        f'<section><h2>{source} <span class="arrow">→</span> {target}</h2>'
        f'<div class="metrics">{cards}</div>'
        f'<p class="note">{count}; drag across the first to compare</p>'
        f'<div class="rows">{images}</div>'
        + _style_sheet(result.style_sheet, source, target)
        + (f"<details><summary>The worst of them</summary>{worst}</details>" if worst else "")
        + _pairs_table(result.copies, "Nearest training images of the fakes")
        + "</section>"
    )


def _metric_card(key: str, result: DirectionResult) -> str:
    """Return one metric with its interval and its baselines: real images and the input copied."""
    name, unit = FIGURES[key]
    value = result.metrics[key]
    low, high = result.intervals.get(key, (value, value))
    spread = f" <i>± {_formatted(key, (high - low) / 2)}</i>" if high > low else ""
    baselines = {"real images": result.real_baseline, "input copied": result.copy_baseline}
    baseline_texts = [
        f"{label} {_formatted(key, metrics[key])}"
        for label, metrics in baselines.items()
        if key != "images" and key in metrics
    ]
    small = " · ".join(baseline_texts) or unit
    return (
        f'<div class="metric" title="{unit}"><b>{_formatted(key, value)}{spread}</b>'
        f"<span>{name}</span><small>{small}</small></div>"
    )


def _pairs_table(rows: list[dict[str, Any]], title: str) -> str:
    """Return a table of image pairs, nearest first."""
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return (
        f'<details><summary>{title}</summary><div class="wide">'
        f"<table><tr>{head}</tr>{body}</table></div></details>"
    )


def _style_sheet(sheet: np.ndarray | None, source: str, target: str) -> str:
    """Return the sheet of sources in the styles of references; empty without styles."""
    if sheet is None:
        return ""
    image = torch.from_numpy(sheet).permute(2, 0, 1)[None]
    text = f"{source} in the styles of {target} above"
    return (
        f'<h3>{text}</h3><div class="wide">'
        f'<img class="sheet" src="{_data_url(image)}" alt="{text}"></div>'
    )


def _image_article(image: EvaluatedImage, source: str, target: str) -> str:
    """Return an image with a slider between input and translation, and its metrics."""
    real, fake = _data_url(image.real), _data_url(image.fake)
    height, width = image.real.shape[-2:]
    parts = [
        f'<figure class="compare" style="aspect-ratio:{width}/{height}">'
        f'<img src="{fake}" alt="fake {target}">'
        f'<img class="before" src="{real}" alt="real {source}">'
        '<input type="range" min="0" max="100" value="50" '
        'aria-label="how much of the original to show">'
        f"<figcaption>{source} | {target}</figcaption></figure>"
    ]
    pictures = {f"real {source}": image.real, f"fake {target}": image.fake,
                f"restored {source}": image.restored, f"true {target}": image.truth}  # fmt: skip
    for label, picture in pictures.items():
        if picture is not None:
            parts.append(
                f'<figure><img src="{_data_url(picture)}" alt="{label}">'
                f"<figcaption>{label}</figcaption></figure>"
            )
    values = {
        key: f"{FIGURES[key][0]} {_formatted(key, value)}" for key, value in image.metrics.items()
        if key in FIGURES and value is not None
    }  # fmt: skip
    main = " · ".join(values.pop(key) for key in MAIN_METRICS if key in values)
    return (
        f"<article><details><summary>{html.escape(image.name)} <small>{main}</small></summary>"
        f"<small>{' · '.join(values.values())}</small></details>"
        f'<div class="strip">{"".join(parts)}</div></article>'
    )


def _data_url(image: Tensor) -> str:
    """Return [1, C, H, W] uint8 as a data URL: PNG up to 128x128 pixels, JPEG above."""
    pixels = to_rgb(image.float() / 127.5 - 1)
    encoded = io.BytesIO()
    small = pixels.shape[0] * pixels.shape[1] <= 128 * 128
    Image.fromarray(pixels).save(
        encoded, "PNG" if small else "JPEG", **({} if small else {"quality": 90})
    )
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _formatted(key: str, value: float) -> str:
    return (
        f"{value:,}"
        if key in ("images", "copies")
        else f"{value:.2f}"
        if key.endswith("psnr")
        or key in ("fid", "swd", "color", "spectrum", "steganography", "truth_ciede2000")
        else f"{value:.3f}"
    )


def _curves(path: Path) -> str:
    """Return a chart of every logged value in metrics.jsonl over the number of images seen.

    Lines that are damaged, as the last one of a killed run may be, are left out.
    """
    rows = [
        {name: value for name, value in row.items() if _is_number(value)}
        for row in read_rows(path, sys.maxsize)
    ]
    rows = [row for row in rows if "images" in row]
    names = sorted({name for row in rows for name in row} - NOT_DRAWN)
    charts = []
    for name in names:
        points = [(row["images"], row[name]) for row in rows if name in row]
        if len(points) > 1:
            last = f"last {points[-1][1]:.3g}"
            charts.append(
                curve_chart(name, {"value": points}, last, width=220, height=70, digits=3)
            )
    return "".join(charts)


def _is_number(value: object) -> bool:
    """Return whether a logged value can be drawn."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return -MAX_DRAWN < value < MAX_DRAWN
