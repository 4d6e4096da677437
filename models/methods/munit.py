"""Xun Huang, Ming-Yu Liu, Serge Belongie, Jan Kautz: Multimodal Unsupervised Image-to-Image
Translation. ECCV 2018. arXiv:1804.04732.

Each domain has a content encoder E^c, a style encoder E^s, a decoder G and a discriminator. The
weights are those of the authors' code. Its domain-invariant perceptual loss, which needs a
pretrained network, is left out; for most of the paper's data sets its weight is 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.checks import check_at_least, check_crop, check_not_both_zero, two_domains
from models.gan_loss import GANLoss, GANLossConfig
from models.losses.reconstruction import l1
from models.method import Batch, Method, Update
from models.networks.discriminators.multiscale_discriminator import MultiscaleDiscriminator
from models.networks.generators.content_and_style import (
    ContentEncoder,
    MunitStyleEncoder,
    StyledConfig,
    StyledDecoder,
)
from models.translator import StyledTranslator


class MUNIT(Method):
    """Translation that keeps an image's content code and samples a style code of the target."""

    @dataclass(frozen=True)
    class Config(GANLossConfig, Method.Config):
        name: str = "munit"  # Huang et al. 2018
        discriminator_weight: float = 2.0  # of the discriminator loss; 2 undoes LSGAN's factor 1/2
        reconstruction_weight: float = 10.0  # lambda_x: of images from their content and style
        content_weight: float = 1.0  # lambda_c: of content codes from translations
        style_weight: float = 1.0  # lambda_s: of sampled style codes from translations
        cycle_weight: float = 0.0  # style-augmented cycle loss; 10 for seasons and streets
        generator: StyledConfig = field(default_factory=StyledConfig)
        discriminator: MultiscaleDiscriminator.Config = field(
            default_factory=MultiscaleDiscriminator.Config
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(
                0, self, "reconstruction_weight", "content_weight", "style_weight", "cycle_weight"
            )
            # Otherwise the style encoders would have no loss.
            check_not_both_zero(self, "reconstruction_weight", "style_weight")

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        (self.a, a_channels), (self.b, b_channels) = two_domains("munit", channels)
        self.content_a = ContentEncoder(a_channels, config.generator)  # E^c_1
        self.content_b = ContentEncoder(b_channels, config.generator)
        self.style_a = MunitStyleEncoder(a_channels, config.generator)  # E^s_1
        self.style_b = MunitStyleEncoder(b_channels, config.generator)
        self.decoder_a = StyledDecoder(a_channels, config.generator)  # G_1
        self.decoder_b = StyledDecoder(b_channels, config.generator)
        self.discriminator_a = MultiscaleDiscriminator(a_channels, config.discriminator)
        self.discriminator_b = MultiscaleDiscriminator(b_channels, config.discriminator)
        self.gan_loss_a = GANLoss(config, "a")
        self.gan_loss_b = GANLoss(config, "b")

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {
            "discriminators": nn.ModuleList([self.discriminator_a, self.discriminator_b]),
            "generators": nn.ModuleList([
                self.content_a, self.content_b, self.style_a, self.style_b,
                self.decoder_a, self.decoder_b,
            ]),
        }  # fmt: skip

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        config = self.config
        real_a, real_b = batch[self.a], batch[self.b]
        content_a, content_b = self.content_a(real_a), self.content_b(real_b)

        with torch.no_grad():
            detached_fake_a = self.decoder_a(content_b, self.sample_prior(real_b))
            detached_fake_b = self.decoder_b(content_a, self.sample_prior(real_a))
        yield Update("discriminators", losses={  # Eq. 4
            **self.gan_loss_a.discriminator_losses(
                self.discriminator_a, real_a, detached_fake_a, step
            ),
            **self.gan_loss_b.discriminator_losses(
                self.discriminator_b, real_b, detached_fake_b, step
            ),
        })  # fmt: skip

        # The generators are not updated yet: the content codes are still valid.
        style_a, style_b = self.style_a(real_a), self.style_b(real_b)
        random_style_a, random_style_b = self.sample_prior(real_b), self.sample_prior(real_a)
        fake_a = self.decoder_a(content_b, random_style_a)
        fake_b = self.decoder_b(content_a, random_style_b)
        recovered_a, recovered_b = self.content_b(fake_b), self.content_a(fake_a)
        losses: dict[str, Tensor] = {}
        if config.adversarial_weight:  # Eq. 4
            losses["adversarial_a"] = self.gan_loss_a.generator_loss(
                self.discriminator_a, fake_a, step
            )
            losses["adversarial_b"] = self.gan_loss_b.generator_loss(
                self.discriminator_b, fake_b, step
            )
        if weight := config.reconstruction_weight:  # Eq. 1
            losses["reconstruction_a"] = weight * l1(self.decoder_a(content_a, style_a), real_a)
            losses["reconstruction_b"] = weight * l1(self.decoder_b(content_b, style_b), real_b)
        if weight := config.content_weight:  # Eq. 2
            losses["content_a"] = weight * l1(recovered_a, content_a)
            losses["content_b"] = weight * l1(recovered_b, content_b)
        if weight := config.style_weight:  # Eq. 3
            losses["style_a"] = weight * l1(self.style_a(fake_a), random_style_a)
            losses["style_b"] = weight * l1(self.style_b(fake_b), random_style_b)
        if weight := config.cycle_weight:  # Sec. 4, style-augmented cycle consistency
            losses["cycle_a"] = weight * l1(self.decoder_a(recovered_a, style_a), real_a)
            losses["cycle_b"] = weight * l1(self.decoder_b(recovered_b, style_b), real_b)
        yield Update("generators", losses=losses)

    def sample_prior(self, images: Tensor) -> Tensor:
        """Draw a style code from N(0, I) for each image [B, C, H, W]: [B, style_dim]."""
        return torch.randn(len(images), self.config.generator.style_dim, device=images.device)

    def translators(self) -> nn.ModuleDict:
        directions = (
            (self.content_a, self.style_b, self.decoder_b, self.a, self.b),
            (self.content_b, self.style_a, self.decoder_a, self.b, self.a),
        )
        return nn.ModuleDict({
            f"{source}_to_{target}": MUNITTranslator(
                content, style, decoder, self.config.generator.style_dim,
                source, target, self.channels[source], self.channels[target],
            )
            for content, style, decoder, source, target in directions
        })  # fmt: skip

    def check_crop_size(self, height: int, width: int) -> None:
        check_crop(height, width, self.style_a, self.discriminator_a)


class MUNITTranslator(StyledTranslator):
    """Decode the content code of an image with a style code of the target domain."""

    def __init__(
        self, content_encoder: ContentEncoder, style_encoder: MunitStyleEncoder,
        decoder: StyledDecoder, style_dim: int,
        source: str, target: str, in_channels: int, out_channels: int,
    ) -> None:  # fmt: skip
        """Take the content encoder of the source, and style encoder and decoder of the target."""
        super().__init__(
            source, target, in_channels, out_channels,
            MunitStyleEncoder.multiple, MunitStyleEncoder.minimum,
        )  # fmt: skip
        self.content_encoder = content_encoder
        self.style_encoder = style_encoder
        self.decoder = decoder
        self.style_dim = style_dim

    def render(self, image: Tensor, style: Tensor) -> Tensor:
        return self.decoder(self.content_encoder(image), style)

    def sample_style(self, count: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        styles = torch.randn(count, self.style_dim, generator=generator)
        return styles.to(next(self.parameters()).device)

    def encode_style(self, reference: Tensor) -> Tensor:
        return self.style_encoder(self.pad(reference))
