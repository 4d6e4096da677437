"""Styles of a styled translator: chosen by a person, shown side by side, and measured."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data.loading import normalise, to_tensor
from data.reading import read_image
from engine.preview import style_sheet
from engine.runtime import Runtime
from errors import UserError
from inference.run import Run
from metrics.diversity import pairwise_distance, share_following
from models.styles import interpolated, mixed, truncated
from models.translator import StyledTranslator, Translator
from options.config import StyleOptions
from paths import named_path

STYLES = 10  # drawn for one image, as the papers do
IMAGES = 8  # of them, and as many references
SHOWN = 5  # of each in the sheet


@torch.no_grad()
def chosen_style(run: Run, direction: str, options: StyleOptions) -> Tensor | None:
    """Return the style that the options ask for, [1, style_dim] or [1, style_blocks, style_dim], or None.

    UserError names the option that the translator cannot follow.
    """
    translator = run.translators[direction]
    if options == StyleOptions():
        return None
    if not isinstance(translator, StyledTranslator):
        raise UserError(f"style.first: {direction} of {run.path} has one output for one input")
    style = _one(translator, run.runtime, "style.first", options.first)
    if options.second:
        second = _one(translator, run.runtime, "style.second", options.second)
        blocks = translator.style_blocks
        if options.coarse > blocks or (options.coarse and blocks == 1):
            most = f"1 to {blocks}" if blocks > 1 else "0: this method renders with one style"
            raise UserError(f"style.coarse must be {most}, got {options.coarse}")
        style = (
            mixed(style, second, blocks, options.coarse) if options.coarse
            else interpolated(style, second, options.share)
        )  # fmt: skip
    usual = translator.usual_style()
    return truncated(style, usual, options.truncation)


def _one(translator: StyledTranslator, runtime: Runtime, option: str, word: str) -> Tensor:
    """Return the style of a picture's file, the one drawn with a number, or the usual one."""
    if not word:
        return translator.usual_style()
    if word.isdecimal():
        if int(word) >= 2**63:
            raise UserError(f"{option} must be below 2^63, or a picture, got {word[:40]}")
        return translator.sample_style(1, seed=int(word))
    path = named_path(word, option)
    if not path.is_file():
        raise UserError(f"{option}={word}: neither a whole number nor a picture")
    pixels = read_image(path, translator.out_channels)
    with runtime.autocast():
        reference = normalise(runtime.receive(to_tensor(pixels)[None]))
        return translator.style_of(reference).float()


@torch.no_grad()
def style_figures(
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
            fake = translator(runtime.receive(source), style)
        return fake.float().clamp(-1, 1).cpu()

    drawn = translator.sample_style(STYLES, seed=0)
    sources = sources[:IMAGES]
    diversity = [
        pairwise_distance([rendered(source, style[None]) for style in drawn]) for source in sources
    ]
    with runtime.autocast():
        read = [translator.style_of(runtime.receive(x)).float() for x in references[:IMAGES]]
    fakes = [[rendered(source, style) for style in read] for source in sources]
    return {
        "diversity": sum(diversity) / len(diversity),
        "style_followed": share_following(fakes, references[:IMAGES]),
    }


def sheet_of(
    translator: Translator,
    sources: Sequence[Tensor],
    references: Sequence[Tensor],
    runtime: Runtime,
) -> np.ndarray | None:
    """Return a picture of sources in the styles of references, uint8 [H, W, 3]; None without styles."""
    if not isinstance(translator, StyledTranslator) or not sources or not references:
        return None
    return style_sheet(translator, sources[:SHOWN], references[:SHOWN], runtime)
