"""Translators: trained networks that map images of one domain, of any size, to another domain."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn


class Translator(nn.Module):
    """Translate images from the domain `source` to the domain `target`.

    Previews, evaluation, translation and export all call this class and nothing below it. An image
    is padded to a size that the networks accept (by reflection, or with its edge pixels where it is
    too small to reflect) and the result is cropped back, so the output has the size of the input.
    An image whose size already fits reaches the networks unchanged, as in training.
    """

    style_dim = 0  # 0: deterministic, one output for one input

    def __init__(
        self, source: str, target: str, in_channels: int, out_channels: int,
        multiple: int = 1, minimum: int = 1,
    ) -> None:  # fmt: skip
        """Take the domains, and the sides that fit: multiples of `multiple` from `minimum` on."""
        super().__init__()
        self.source = source
        self.target = target
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.multiple = multiple
        self.minimum = minimum

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Map [B, in_channels, H, W] in [-1, 1] to [B, out_channels, H, W] in [-1, 1].

        `style` is [B, style_dim], or [1, style_dim] for all images; a deterministic translator
        ignores it. With [B, style_blocks, style_dim] each part of the network has a style of its
        own, the coarsest part first.
        """
        height, width = image.shape[-2:]
        return self.translate(self.pad(image), style)[..., :height, :width]

    def translate(self, image: Tensor, style: Tensor | None) -> Tensor:
        """Map images [B, C, H, W] of a size that fits; subclasses implement it."""
        raise NotImplementedError

    def pad(self, image: Tensor) -> Tensor:
        """Return [B, C, H, W] padded at the bottom and right to a size that fits."""
        bottom, right, reflects = self.padding(*image.shape[-2:])
        if not bottom and not right:
            return image
        return F.pad(image, (0, right, 0, bottom), mode="reflect" if reflects else "replicate")

    def padding(self, height: int, width: int) -> tuple[int, int, bool]:
        """Return the rows to add below, the columns to add at the right, whether to reflect."""
        bottom = round_up_to_multiple(height, self.multiple, self.minimum) - height
        right = round_up_to_multiple(width, self.multiple, self.minimum) - width
        return bottom, right, bottom < height and right < width


class DeterministicTranslator(Translator):
    """A translator of one generator network: one output for one input."""

    def __init__(
        self, generator: nn.Module, source: str, target: str, in_channels: int, out_channels: int,
        multiple: int, minimum: int,
    ) -> None:  # fmt: skip
        super().__init__(source, target, in_channels, out_channels, multiple, minimum)
        self.generator = generator

    def translate(self, image: Tensor, style: Tensor | None) -> Tensor:
        return self.generator(image)


def build_translators(
    channels: Mapping[str, int], *directions: tuple[nn.Module, str, str]
) -> nn.ModuleDict:
    """Return "a_to_b" -> translator for each (generator, source, target).

    `channels` maps domain name -> channel count. The attributes `multiple` and `minimum` of a
    generator define the sizes that it accepts.
    """
    return nn.ModuleDict({
        f"{source}_to_{target}": DeterministicTranslator(
            generator, source, target, channels[source], channels[target],
            generator.multiple, generator.minimum,  # pyright: ignore[reportArgumentType]
        )
        for generator, source, target in directions
    })  # fmt: skip


class StyledTranslator(Translator):
    """A translator that renders the target domain in a given style; multimodal methods subclass it.

    Without a given style every image is rendered in the mean style, so that the output depends only
    on the image.
    """

    MEAN_STYLE_SAMPLES = 256  # styles whose mean is the mean style
    style_blocks = 1  # parts of the network that can each have a style of their own

    def translate(self, image: Tensor, style: Tensor | None) -> Tensor:
        style = self.mean_style() if style is None else style
        return self.render(image, style.to(image.dtype).expand(image.shape[0], *style.shape[1:]))

    def render(self, image: Tensor, style: Tensor) -> Tensor:
        """Map images [B, C, H, W] of a size that fits and styles [B, style_dim] to images.

        With several `style_blocks`, styles can also be [B, style_blocks, style_dim].
        """
        raise NotImplementedError

    def sample_style(self, count: int, seed: int = 0) -> Tensor:
        """Return random styles [count, style_dim] of the target domain, determined by the seed."""
        raise NotImplementedError

    def encode_style(self, reference: Tensor) -> Tensor:
        """Return the style [B, style_dim] of target-domain images [B, out_channels, H, W]."""
        raise NotImplementedError

    def mean_style(self) -> Tensor:
        """Return the mean of random target styles, [1, style_dim] (Karras et al. 2019, App. B)."""
        return self.sample_style(self.MEAN_STYLE_SAMPLES).mean(dim=0, keepdim=True)


class FixedStyle(DeterministicTranslator):
    """A styled translator with its style fixed: one output for one input, as needed for export."""

    def __init__(self, styled: StyledTranslator, style: Tensor) -> None:
        """Take a translator and its style, [1, style_dim] or [1, style_blocks, style_dim]."""
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
