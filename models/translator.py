"""A trained translator: images of one domain in, images of another out, any size."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn


class Translator(nn.Module):
    """Translate images from `source` to `target`; the object that every use of a run shares.

    Previews, evaluation, translation and export call this and nothing below it. The picture is
    extended to what the networks need (reflection, or its edge where it is too small to be reflected)
    and the result cut back, so the output always has the size of the input. Sizes that already fit
    pass untouched: what is measured here is what was trained.
    """

    style_dim = 0  # 0: deterministic, one output for one input

    def __init__(
        self, source: str, target: str, in_channels: int, out_channels: int,
        multiple: int = 1, minimum: int = 1,
    ) -> None:  # fmt: skip
        """Take the ends, and the sizes that fit: multiples of `multiple`, at least `minimum`."""
        super().__init__()
        self.source = source
        self.target = target
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.multiple = multiple
        self.minimum = minimum

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Map [B, in_channels, H, W] in [-1, 1] to [B, out_channels, H, W] in [-1, 1].

        `style` is [B, style_dim], or [1, style_dim] for all; a deterministic translator knows none.
        With [B, style_blocks, style_dim] each part of the network has its own, the coarsest first.
        """
        height, width = image.shape[-2:]
        return self.translate(self.pad(image), style)[..., :height, :width]

    def translate(self, image: Tensor, style: Tensor | None) -> Tensor:
        """Map images of a size that fits."""
        raise NotImplementedError

    def pad(self, image: Tensor) -> Tensor:
        """Return [B, C, H, W] extended below and to the right to a size that fits."""
        down, right, reflected = self.padding(*image.shape[-2:])
        if not down and not right:
            return image
        return F.pad(image, (0, right, 0, down), mode="reflect" if reflected else "replicate")

    def padding(self, height: int, width: int) -> tuple[int, int, bool]:
        """Return the rows below and columns to the right that a picture needs, and whether they reflect."""
        down = round_up_to_multiple(height, self.multiple, self.minimum) - height
        right = round_up_to_multiple(width, self.multiple, self.minimum) - width
        return down, right, down < height and right < width


class DeterministicTranslator(Translator):
    """A translator around one generator network."""

    def __init__(
        self, generator: nn.Module, source: str, target: str, in_channels: int, out_channels: int,
        multiple: int, minimum: int,
    ) -> None:  # fmt: skip
        super().__init__(source, target, in_channels, out_channels, multiple, minimum)
        self.generator = generator

    def translate(self, image: Tensor, style: Tensor | None) -> Tensor:
        return self.generator(image)


def build_translators(
    channels: Mapping[str, int], *ways: tuple[nn.Module, str, str]
) -> nn.ModuleDict:
    """Return "a_to_b" -> translator for each (generator, source, target); `channels` are the domains'.

    A generator says in `multiple` and `minimum` which sizes fit it.
    """
    return nn.ModuleDict({
        f"{source}_to_{target}": DeterministicTranslator(
            generator, source, target, channels[source], channels[target],
            generator.multiple, generator.minimum,  # pyright: ignore[reportArgumentType]
        )
        for generator, source, target in ways
    })  # fmt: skip


class StyledTranslator(Translator):
    """A translator that can be told how the result should look; a method subclasses it.

    Without a style every image gets the usual one, so that what comes out depends on the image alone.
    """

    MEAN_STYLE_SAMPLES = 256  # styles whose mean is the mean style
    style_blocks = 1  # parts of the network that can each be given a style of their own

    def translate(self, image: Tensor, style: Tensor | None) -> Tensor:
        style = self.mean_style() if style is None else style
        return self.render(image, style.to(image.dtype).expand(image.shape[0], *style.shape[1:]))

    def render(self, image: Tensor, style: Tensor) -> Tensor:
        """Map images [B, C, H, W] of a size that fits and styles [B, style_dim] to images.

        Where there are several `style_blocks`, styles may be [B, style_blocks, style_dim] too.
        """
        raise NotImplementedError

    def sample_style(self, count: int, seed: int = 0) -> Tensor:
        """Draw [count, style_dim] styles of the target domain: the same for the same seed and weights."""
        raise NotImplementedError

    def encode_style(self, reference: Tensor) -> Tensor:
        """Read the style [B, style_dim] of images [B, out_channels, H, W] of the target domain."""
        raise NotImplementedError

    def mean_style(self) -> Tensor:
        """Return the middle of the target's styles, [1, style_dim] (Karras et al. 2019, App. B)."""
        return self.sample_style(self.MEAN_STYLE_SAMPLES).mean(dim=0, keepdim=True)


class FixedStyle(DeterministicTranslator):
    """A styled translator with one style for good: one output for one input, as it is exported."""

    def __init__(self, styled: StyledTranslator, style: Tensor) -> None:
        """Take the style, [1, style_dim] or [1, style_blocks, style_dim]."""
        super().__init__(
            _FixedStyleGenerator(styled, style), styled.source, styled.target, styled.in_channels,
            styled.out_channels, styled.multiple, styled.minimum,
        )  # fmt: skip


class _FixedStyleGenerator(nn.Module):
    style: Tensor

    def __init__(self, styled: StyledTranslator, style: Tensor) -> None:
        super().__init__()
        self.styled = styled
        self.register_buffer("style", style)

    def forward(self, image: Tensor) -> Tensor:
        return self.styled.translate(image, self.style)


def round_up_to_multiple(side: int, multiple: int, minimum: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `side` and `minimum`."""
    return -(-max(side, minimum) // multiple) * multiple
