"""Select the style of translations: sample, encode, interpolate, mix and truncate styles."""

import torch
from torch import Tensor

from common.errors import UserError
from common.user_paths import parse_path
from data.reading import read_pixels
from data.tensors import normalize, to_tensor
from inference.open_run import Run
from models.translator import StyledTranslator
from options.config import StyleOptions


@torch.no_grad()
def select_style(run: Run, direction: str, options: StyleOptions) -> Tensor | None:
    """Return the style that the options describe, or None for the default options.

    The shape is [1, style_dim], or [1, style_blocks, style_dim] with `mixing_blocks`. UserError
    names the option that the translator does not support.
    """
    translator = run.translators[direction]
    if options == StyleOptions():
        return None
    if not isinstance(translator, StyledTranslator):
        raise UserError(
            f"style.first: {direction} of {run.path} has no styles, one output for one input",
            option="style.first",
            path=run.path,
        )
    style = _style_of(run, translator, "style.first", options.first)
    if options.second:
        second = _style_of(run, translator, "style.second", options.second)
        blocks = translator.style_blocks
        if options.mixing_blocks > blocks or (options.mixing_blocks and blocks == 1):
            allowed = f"1 to {blocks}" if blocks > 1 else "0 for this method, which cannot mix"
            raise UserError(
                f"style.mixing_blocks must be {allowed}, got {options.mixing_blocks}",
                option="style.mixing_blocks",
            )
        style = (
            mix_styles(style, second, blocks, options.mixing_blocks) if options.mixing_blocks
            else interpolate_styles(style, second, options.interpolation)
        )  # fmt: skip
    return truncate_style(style, translator.mean_style(), options.truncation)


def _style_of(run: Run, translator: StyledTranslator, option: str, value: str) -> Tensor:
    """Return the style of a picture file or of a seed; for "", the mean style."""
    if not value:
        return translator.mean_style()
    if value.isdecimal():
        if int(value) >= 2**63:
            raise UserError(
                f"{option} must be a picture or a number below 2^63, got {value[:40]}",
                option=option,
            )
        return translator.sample_style(1, seed=int(value))
    path = parse_path(value, option)
    if not path.is_file():
        raise UserError(
            f"{option}={value}: neither a whole number nor a picture", option=option, path=path
        )
    pixels = read_pixels(path, run.options.data.formats()[translator.target])
    with run.runtime.autocast():
        reference = normalize(run.runtime.to_device(to_tensor(pixels)[None]))
        return translator.encode_style(reference).float()


def interpolate_styles(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Return the linear interpolation of two styles: `first` at weight 0, `second` at 1."""
    return torch.lerp(first, second.to(first.dtype), weight)


def truncate_style(style: Tensor, mean: Tensor, psi: float) -> Tensor:
    """Return the interpolation from the mean style, at psi 0, to `style`, at psi 1.

    A small psi trades variety for quality: the truncation trick (Karras et al. 2019,
    arXiv:1812.04948, App. B). `style` is [B, style_dim] or [B, style_blocks, style_dim], `mean`
    [1, style_dim].
    """
    return torch.lerp(mean.to(style.dtype).expand_as(style), style, psi)


def mix_styles(coarse: Tensor, fine: Tensor, blocks: int, coarse_blocks: int) -> Tensor:
    """Return [B, blocks, style_dim]: `coarse` in the first `coarse_blocks`, `fine` in the rest.

    `coarse` and `fine` are [B, style_dim] ([1, style_dim] for all), `blocks` is the translator's
    `style_blocks`. Early blocks control large structures, late blocks details (style mixing, Karras
    et al. 2019, Sec. 3.1). ValueError unless `coarse_blocks` is 0 to `blocks`.
    """
    if not 0 <= coarse_blocks <= blocks:
        raise ValueError(f"coarse_blocks must be 0 to {blocks}, got {coarse_blocks}")
    coarse, fine = torch.broadcast_tensors(coarse, fine)
    return torch.stack([coarse] * coarse_blocks + [fine] * (blocks - coarse_blocks), dim=1)
