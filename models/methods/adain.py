"""Xun Huang, Serge Belongie: Arbitrary Style Transfer in Real-time with Adaptive Instance
Normalization. ICCV 2017. arXiv:1703.06868.

A style is the mean and standard deviation of each channel in VGG's relu4_1, for one target image.
The content loss is squared as in the authors' code. VGG is torchvision's, with zero padding; the
authors' VGG has rescaled features and reflection padding.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.checks import check_at_least, check_sides, two_domains
from models.losses.reconstruction import l2
from models.losses.style import mean_and_std, statistics_distance
from models.method import Batch, Method, Update
from models.networks.generators.vgg_decoder import VggDecoder
from models.networks.vgg import Vgg, check_channels
from models.translator import StyledTranslator

CONTENT = "relu4_1"
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
MULTIPLE, MINIMUM = 8, 16  # three poolings; the decoder pads by reflection at 1/8 of the size


class AdaIN(Method):
    """A frozen VGG encoder and a trained decoder of content features with a style's statistics."""

    supports_distributed = False  # the style banks of several processes cannot be averaged

    @dataclass(frozen=True)
    class Config(Method.Config):
        name: str = "adain"  # Huang & Belongie 2017
        content_weight: float = 1.0  # weight of the content loss, Eq. 12
        style_weight: float = 10.0  # weight of the style loss in four layers, lambda of Eq. 11
        bank: int = 256  # last styles of training to store; sampled without a reference image
        vgg: Vgg.Config = field(default_factory=Vgg.Config)

        def __post_init__(self) -> None:
            check_at_least(0, self, "content_weight", "style_weight")
            check_at_least(1, self, "bank")

        def notes(self) -> list[str]:
            return self.vgg.notes()

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        check_channels(channels)
        self.config = config
        (self.a, _), (self.b, _) = two_domains("adain", channels)
        self.encoder = Vgg(config.vgg, STYLE)
        self.encoder.load()  # translating needs it too
        self.decoder = VggDecoder(config.vgg, channels[self.b])
        self.bank = StyleBank(config.bank, 2 * self.encoder.widths()[CONTENT])

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {"decoder": self.decoder}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        config = self.config
        with torch.no_grad():
            content, style = self.encoder(batch[self.a])[CONTENT], self.encoder(batch[self.b])
            self.bank.remember(style_vector(style[CONTENT]))
            t = adain(content, style_vector(style[CONTENT]))  # Eq. 9

        output = self.encoder(self.decoder(t))  # features of the output image, Eq. 10
        distances = [statistics_distance(output[layer], style[layer]) for layer in STYLE]
        yield Update("decoder", losses={  # Eq. 11
            "content": config.content_weight * l2(output[CONTENT], t),  # Eq. 12
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
    mean, std = mean_and_std(content)
    style_mean, style_std = style[:, :, None, None].chunk(2, dim=1)
    return style_std * (content - mean) / std + style_mean


def style_vector(features: Tensor) -> Tensor:
    """Return the style [B, 2 C] of features [B, C, H, W]: channel means, then deviations."""
    return torch.cat(mean_and_std(features), dim=1).flatten(1)


class AdaINTranslator(StyledTranslator):
    """Encode an image, give its features a style, and decode them."""

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
        return self.bank.sample(count, seed)

    def encode_style(self, reference: Tensor) -> Tensor:
        return style_vector(self.encoder(self.pad(reference))[CONTENT])


class StyleBank(nn.Module):
    """A ring buffer of the last styles seen in training; untrained, it holds arbitrary styles."""

    styles: Tensor  # [size, style_dim]
    seen: Tensor  # number of styles so far

    def __init__(self, size: int, style_dim: int) -> None:
        super().__init__()
        arbitrary = torch.rand(size, style_dim, generator=torch.Generator().manual_seed(0))
        self.register_buffer("styles", arbitrary)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def remember(self, styles: Tensor) -> None:
        """Store [B, style_dim] in place of the oldest styles."""
        size = len(self.styles)
        styles = styles[:size]
        offsets = torch.arange(len(styles), device=self.seen.device)
        self.styles.index_copy_(0, (self.seen + offsets) % size, styles)
        self.seen += len(styles)

    def sample(self, count: int, seed: int) -> Tensor:
        """Return random stored styles [count, style_dim], the same for the same seed and bank."""
        filled = min(int(self.seen), len(self.styles)) or len(self.styles)
        slots = torch.randint(filled, (count,), generator=torch.Generator().manual_seed(seed))
        return self.styles[slots.to(self.styles.device)]
