"""Diversity of styles, whether references are followed, and a sheet of styles."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.previews import style_sheet
from engine.runtime import Runtime
from metrics.diversity import pairwise_distance, style_accuracy
from models.translator import StyledTranslator, Translator

STYLES = 10  # drawn for one image, as the papers do


IMAGES = 8  # of them, and as many references


SHOWN = 5  # of each in the sheet


@torch.no_grad()
def style_metrics(
    translator: Translator,
    sources: Sequence[Tensor],
    references: Sequence[Tensor],
    runtime: Runtime,
) -> dict[str, float]:
    """Return diversity and style_followed of a styled translator; nothing for another.

    `sources` and `references` are held-out images [1, C, H, W] in [-1, 1] of either end; a few of each
    are used. See metrics/diversity.py for what the figures are.
    """
    if not isinstance(translator, StyledTranslator) or len(references) < 2 or not sources:
        return {}

    def rendered(source: Tensor, style: Tensor) -> Tensor:
        with runtime.autocast():
            fake = translator(runtime.to_device(source), style)
        return fake.float().clamp(-1, 1).cpu()

    drawn = translator.sample_style(STYLES, seed=0)
    sources = sources[:IMAGES]
    diversity = [
        pairwise_distance([rendered(source, style[None]) for style in drawn]) for source in sources
    ]
    with runtime.autocast():
        read = [translator.encode_style(runtime.to_device(x)).float() for x in references[:IMAGES]]
    fakes = [[rendered(source, style) for style in read] for source in sources]
    return {
        "diversity": sum(diversity) / len(diversity),
        "style_followed": style_accuracy(fakes, references[:IMAGES]),
    }


def make_style_sheet(
    translator: Translator,
    sources: Sequence[Tensor],
    references: Sequence[Tensor],
    runtime: Runtime,
) -> np.ndarray | None:
    """Return a picture of sources in the styles of references, uint8 [H, W, 3]; None without styles."""
    if not isinstance(translator, StyledTranslator) or not sources or not references:
        return None
    return style_sheet(translator, sources[:SHOWN], references[:SHOWN], runtime)
