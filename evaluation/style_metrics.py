"""Measure the styles of a styled translator, and draw a sheet of them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.previews import style_sheet
from engine.runtime import Runtime
from metrics.diversity import pairwise_distance, style_accuracy
from models.translator import StyledTranslator, Translator

STYLES = 10  # sampled for each image, as in the papers
MAX_IMAGES = 8  # sources, and as many references
SHEET_IMAGES = 5  # sources and references in the sheet


@torch.no_grad()
def style_metrics(
    translator: Translator,
    sources: Sequence[Tensor],
    references: Sequence[Tensor],
    runtime: Runtime,
) -> dict[str, float]:
    """Return diversity and style_followed of a styled translator; nothing for other translators.

    `sources` and `references` are held-out images [1, C, H, W] in [-1, 1] of the source and the
    target domain; the first 8 of each are used. metrics/diversity.py defines the metrics.
    """
    if not isinstance(translator, StyledTranslator) or len(references) < 2 or not sources:
        return {}

    def render(source: Tensor, style: Tensor) -> Tensor:
        with runtime.autocast():
            fake = translator(runtime.to_device(source), style)
        return fake.float().clamp(-1, 1).cpu()

    sampled = translator.sample_style(STYLES, seed=0)
    sources = sources[:MAX_IMAGES]
    diversity = [
        pairwise_distance([render(source, style[None]) for style in sampled]) for source in sources
    ]
    with runtime.autocast():
        encoded = [
            translator.encode_style(runtime.to_device(image)).float()
            for image in references[:MAX_IMAGES]
        ]
    fakes = [[render(source, style) for style in encoded] for source in sources]
    return {
        "diversity": sum(diversity) / len(diversity),
        "style_followed": style_accuracy(fakes, references[:MAX_IMAGES]),
    }


def make_style_sheet(
    translator: Translator,
    sources: Sequence[Tensor],
    references: Sequence[Tensor],
    runtime: Runtime,
) -> np.ndarray | None:
    """Return sources in the styles of references, a grid uint8 [H, W, 3]; None without styles."""
    if not isinstance(translator, StyledTranslator) or not sources or not references:
        return None
    return style_sheet(translator, sources[:SHEET_IMAGES], references[:SHEET_IMAGES], runtime)
