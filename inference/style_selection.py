"""Styles of a styled translator: chosen by a person, shown side by side, and measured."""

import torch
from torch import Tensor

from common.errors import UserError
from common.user_paths import parse_path
from data.reading import read_image
from data.tensors import normalize, to_tensor
from engine.runtime import Runtime
from inference.open_run import Run
from models.translator import StyledTranslator
from options.config import StyleOptions


@torch.no_grad()
def select_style(run: Run, direction: str, options: StyleOptions) -> Tensor | None:
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
        if options.mixing_blocks > blocks or (options.mixing_blocks and blocks == 1):
            most = f"1 to {blocks}" if blocks > 1 else "0: this method renders with one style"
            raise UserError(f"style.mixing_blocks must be {most}, got {options.mixing_blocks}")
        style = (
            mix_styles(style, second, blocks, options.mixing_blocks) if options.mixing_blocks
            else interpolate_styles(style, second, options.interpolation)
        )  # fmt: skip
    usual = translator.mean_style()
    return truncate_style(style, usual, options.truncation)


def _one(translator: StyledTranslator, runtime: Runtime, option: str, word: str) -> Tensor:
    """Return the style of a picture's file, the one drawn with a number, or the usual one."""
    if not word:
        return translator.mean_style()
    if word.isdecimal():
        if int(word) >= 2**63:
            raise UserError(f"{option} must be below 2^63, or a picture, got {word[:40]}")
        return translator.sample_style(1, seed=int(word))
    path = parse_path(word, option)
    if not path.is_file():
        raise UserError(f"{option}={word}: neither a whole number nor a picture")
    pixels = read_image(path, translator.out_channels)
    with runtime.autocast():
        reference = normalize(runtime.to_device(to_tensor(pixels)[None]))
        return translator.encode_style(reference).float()


def interpolate_styles(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Return the style at `share` of the way from `one` to `other`: 0 is the one, 1 the other."""
    return torch.lerp(one, other.to(one.dtype), share)


def truncate_style(style: Tensor, usual: Tensor, psi: float) -> Tensor:
    """Return `style` drawn towards the usual one: psi 1 leaves it, 0 gives `usual`.

    Less variety for safer images (Karras et al. 2019, arXiv:1812.04948, App. B). `style` is
    [B, style_dim] or [B, style_blocks, style_dim], `usual` [1, style_dim].
    """
    return torch.lerp(usual.to(style.dtype).expand_as(style), style, psi)


def mix_styles(coarse: Tensor, fine: Tensor, blocks: int, coarse_blocks: int) -> Tensor:
    """Return [B, blocks, style_dim]: the first `coarse_blocks` have one style, the rest the other.

    `coarse` and `fine` are [B, style_dim] ([1, style_dim] for all), `blocks` the translator's
    `style_blocks`; early blocks shape what is large, late ones what is small (Karras et al. 2019,
    Sec. 3.1). ValueError where there are not so many blocks.
    """
    if not 0 <= coarse_blocks <= blocks:
        raise ValueError(f"coarse_blocks must be 0 to {blocks}, got {coarse_blocks}")
    coarse, fine = torch.broadcast_tensors(coarse, fine)
    return torch.stack([coarse] * coarse_blocks + [fine] * (blocks - coarse_blocks), dim=1)
