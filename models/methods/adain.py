"""Xun Huang, Serge Belongie: Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization.
ICCV 2017. arXiv:1703.06868.

A style is what one image of the target looks like in VGG's relu4_1: each channel's mean and deviation.
The content loss is squared as in the authors' code. VGG is torchvision's, whose borders are zeros; the
authors' has its features scaled and its borders reflected.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.checks import at_least, check_sides, two_domains
from models.losses.reconstruction import l2
from models.losses.style import mean_and_deviation, statistics_distance
from models.method import Batch, Method, Update
from models.networks.generators.vgg_decoder import VggDecoder
from models.networks.vgg import Vgg, check_channels
from models.translator import StyledTranslator

CONTENT = "relu4_1"
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
MULTIPLE, MINIMUM = 8, 16  # three poolings; the decoder reflects one pixel at an eighth of the size


class AdaIN(Method):
    """A frozen encoder and a decoder of what lies between: content with the statistics of a style."""

    supports_distributed = False  # the mean of several banks of styles is no bank

    @dataclass(frozen=True)
    class Config(Method.Config):
        name: str = "adain"  # Huang & Belongie 2017
        content_weight: float = 1.0  # of features that are the mixed ones again
        style_weight: float = 10.0  # lambda of Eq. 11: of the style's statistics in four layers
        bank: int = 256  # styles kept from training, to be drawn where no reference is given
        vgg: Vgg.Config = field(default_factory=Vgg.Config)

        def __post_init__(self) -> None:
            at_least(0, self, "content_weight", "style_weight")
            at_least(1, self, "bank")

        def notes(self) -> list[str]:
            return self.vgg.notes()

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        check_channels(channels)
        self.config = config
        (self.a, _), (self.b, _) = two_domains("adain", channels)
        self.encoder = Vgg(config.vgg, STYLE)
        self.encoder.load()  # a trained translator needs it too
        self.decoder = VggDecoder(config.vgg, channels[self.b])
        self.bank = StyleBank(config.bank, 2 * self.encoder.widths()[CONTENT])

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {"decoder": self.decoder}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        config = self.config
        with torch.no_grad():
            content, style = self.encoder(batch[self.a])[CONTENT], self.encoder(batch[self.b])
            self.bank.remember(style_vector(style[CONTENT]))
            mixed = adain(content, style_vector(style[CONTENT]))  # Eq. 9

        found = self.encoder(self.decoder(mixed))  # Eq. 10, and encoded again
        distances = [statistics_distance(found[layer], style[layer]) for layer in STYLE]
        yield Update("decoder", losses={  # Eq. 11
            "content": config.content_weight * l2(found[CONTENT], mixed),  # Eq. 12
            "style": config.style_weight * torch.stack(distances).sum(),  # Eq. 13
        })  # fmt: skip

    def translators(self) -> nn.ModuleDict:
        return nn.ModuleDict({
            f"{self.a}_to_{self.b}": AdaINTranslator(
                self.encoder, self.decoder, self.bank, self.a, self.b
            )
        })  # fmt: skip

    def check_crop_size(self, height: int, width: int) -> None:
        check_sides(height, width, MULTIPLE, MINIMUM)


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Return features [B, C, H, W] with the statistics of styles [B, 2 C] (Eq. 8)."""
    mean, deviation = mean_and_deviation(content)
    wanted_mean, wanted_deviation = style[:, :, None, None].chunk(2, dim=1)
    return wanted_deviation * (content - mean) / deviation + wanted_mean


def style_vector(features: Tensor) -> Tensor:
    """Return a style [B, 2 C] of features [B, C, H, W]: the channels' means, then their deviations."""
    return torch.cat(mean_and_deviation(features), dim=1).flatten(1)


class AdaINTranslator(StyledTranslator):
    """Encode, give the features a style, decode."""

    def __init__(
        self, encoder: Vgg, decoder: VggDecoder, bank: "StyleBank", source: str, target: str
    ) -> None:
        super().__init__(source, target, 3, 3, MULTIPLE, MINIMUM)
        self.encoder = encoder
        self.decoder = decoder
        self.bank = bank
        self.style_dim = bank.styles.shape[1]

    def render(self, image: Tensor, style: Tensor) -> Tensor:
        return self.decoder(adain(self.encoder(image)[CONTENT], style)).clamp(-1, 1)

    def sample_style(self, count: int, seed: int = 0) -> Tensor:
        return self.bank.drawn(count, seed)

    def encode_style(self, reference: Tensor) -> Tensor:
        return style_vector(self.encoder(self.pad(reference))[CONTENT])


class StyleBank(nn.Module):
    """The last styles seen in training; before the first there are arbitrary ones to draw."""

    styles: Tensor  # [size, style_dim]
    seen: Tensor

    def __init__(self, size: int, style_dim: int) -> None:
        super().__init__()
        arbitrary = torch.rand(size, style_dim, generator=torch.Generator().manual_seed(0))
        self.register_buffer("styles", arbitrary)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def remember(self, styles: Tensor) -> None:
        """Keep [B, style_dim] in the places of the oldest."""
        size = len(self.styles)
        styles = styles[:size]
        numbers = torch.arange(len(styles), device=self.seen.device)
        self.styles.index_copy_(0, (self.seen + numbers) % size, styles)
        self.seen += len(styles)

    def drawn(self, count: int, seed: int) -> Tensor:
        """Return [count, style_dim], the same for the same seed and bank."""
        known = min(int(self.seen), len(self.styles)) or len(self.styles)
        places = torch.randint(known, (count,), generator=torch.Generator().manual_seed(seed))
        return self.styles[places.to(self.styles.device)]
