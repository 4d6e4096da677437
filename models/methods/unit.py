"""Ming-Yu Liu, Thomas Breuel, Jan Kautz: Unsupervised Image-to-Image Translation Networks.
NIPS 2017. arXiv:1703.00848.

Encoders E_1 and E_2 (`encoder_a`, `encoder_b`), generators G_1 and G_2 (`decoder_a`, `decoder_b`),
and one discriminator for each domain. Where the paper and the published code differ, this follows
the code (MUNIT's repository, which has both methods): it shares no weights between the domains,
sets the adversarial weight to 1 and divides the others by ten too, uses LSGAN, and omits the factor
1/2 of the KL divergence.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.checks import check_at_least, check_crop, check_not_both_zero, two_domains
from models.gan_loss import GANLoss, GANLossConfig
from models.losses.divergence import unit_gaussian_kl
from models.losses.reconstruction import l1
from models.method import Batch, Method, Update
from models.networks.discriminators.multiscale_discriminator import MultiscaleDiscriminator
from models.networks.generators.content_and_style import AutoencoderConfig, ContentEncoder, Decoder
from models.translator import DeterministicTranslator


class UNIT(Method):
    """Variational autoencoders with one latent space: encode in one domain, decode in the other."""

    @dataclass(frozen=True)
    class Config(GANLossConfig, Method.Config):
        name: str = "unit"  # Liu et al. 2017
        discriminator_weight: float = 2.0  # of the discriminator loss; 2 undoes LSGAN's factor 1/2
        reconstruction_weight: float = 10.0  # lambda_2: of images from their own noisy codes
        kl_weight: float = 0.01  # lambda_1: of the KL divergence of codes from N(0, I)
        cycle_weight: float = 10.0  # lambda_4: of cycle consistency; 0 disables it
        cycle_kl_weight: float = 0.01  # lambda_3: of the KL divergence for codes of translations
        shared_blocks: int = 0  # residual blocks shared: last of encoders, first of decoders
        generator: AutoencoderConfig = field(default_factory=AutoencoderConfig)
        discriminator: MultiscaleDiscriminator.Config = field(
            default_factory=MultiscaleDiscriminator.Config
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(
                0, self, "reconstruction_weight", "kl_weight", "cycle_weight", "cycle_kl_weight"
            )
            check_not_both_zero(self, "adversarial_weight", "reconstruction_weight")
            if not 0 <= self.shared_blocks <= self.generator.blocks:
                raise ValueError(
                    f"method.shared_blocks must be 0 to method.generator.blocks="
                    f"{self.generator.blocks}, got {self.shared_blocks}"
                )

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        (self.a, a_channels), (self.b, b_channels) = two_domains("unit", channels)
        self.encoder_a = ContentEncoder(a_channels, config.generator)
        self.encoder_b = ContentEncoder(b_channels, config.generator)
        self.decoder_a = Decoder(a_channels, config.generator)
        self.decoder_b = Decoder(b_channels, config.generator)
        for index in range(config.shared_blocks):  # Sec. 3, weight-sharing
            self.encoder_b.trunk[-1 - index] = self.encoder_a.trunk[-1 - index]
            self.decoder_b.trunk[index] = self.decoder_a.trunk[index]
        self.discriminator_a = MultiscaleDiscriminator(a_channels, config.discriminator)
        self.discriminator_b = MultiscaleDiscriminator(b_channels, config.discriminator)
        self.gan_loss_a = GANLoss(config, "a")
        self.gan_loss_b = GANLoss(config, "b")

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {
            "discriminators": nn.ModuleList([self.discriminator_a, self.discriminator_b]),
            "generators": nn.ModuleList(
                [self.encoder_a, self.encoder_b, self.decoder_a, self.decoder_b]
            ),
        }

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        config = self.config
        real_a, real_b = batch[self.a], batch[self.b]
        mean_a, mean_b = self.encoder_a(real_a), self.encoder_b(real_b)  # means of q_1 and q_2

        with torch.no_grad():
            detached_fake_a = self.decoder_a(sample_code(mean_b))
            detached_fake_b = self.decoder_b(sample_code(mean_a))
        yield Update("discriminators", losses={  # L_GAN, maximised over D_1 and D_2
            **self.gan_loss_a.discriminator_losses(
                self.discriminator_a, real_a, detached_fake_a, step
            ),
            **self.gan_loss_b.discriminator_losses(
                self.discriminator_b, real_b, detached_fake_b, step
            ),
        })  # fmt: skip

        # The generators are not updated yet: the means are still valid.
        code_a, code_b = sample_code(mean_a), sample_code(mean_b)
        fake_a, fake_b = self.decoder_a(code_b), self.decoder_b(code_a)
        losses: dict[str, Tensor] = {}
        if config.adversarial_weight:  # L_GAN
            losses["adversarial_a"] = self.gan_loss_a.generator_loss(
                self.discriminator_a, fake_a, step
            )
            losses["adversarial_b"] = self.gan_loss_b.generator_loss(
                self.discriminator_b, fake_b, step
            )
        if config.reconstruction_weight:  # likelihood term of L_VAE
            weight = config.reconstruction_weight
            losses["reconstruction_a"] = weight * l1(self.decoder_a(code_a), real_a)
            losses["reconstruction_b"] = weight * l1(self.decoder_b(code_b), real_b)
        if config.kl_weight:  # KL term of L_VAE
            losses["kl_a"] = config.kl_weight * unit_gaussian_kl(mean_a)
            losses["kl_b"] = config.kl_weight * unit_gaussian_kl(mean_b)
        if config.cycle_weight:  # L_CC
            cycle_mean_a, cycle_mean_b = self.encoder_b(fake_b), self.encoder_a(fake_a)
            restored_a = self.decoder_a(sample_code(cycle_mean_a))
            restored_b = self.decoder_b(sample_code(cycle_mean_b))
            losses["cycle_a"] = config.cycle_weight * l1(restored_a, real_a)
            losses["cycle_b"] = config.cycle_weight * l1(restored_b, real_b)
            losses["cycle_kl_a"] = config.cycle_kl_weight * unit_gaussian_kl(cycle_mean_a)
            losses["cycle_kl_b"] = config.cycle_kl_weight * unit_gaussian_kl(cycle_mean_b)
        yield Update("generators", losses=losses)

    def translators(self) -> nn.ModuleDict:
        """Return both directions; they decode the means, without noise."""
        directions = (
            (self.encoder_a, self.decoder_b, self.a, self.b),
            (self.encoder_b, self.decoder_a, self.b, self.a),
        )
        return nn.ModuleDict({
            f"{source}_to_{target}": DeterministicTranslator(
                nn.Sequential(encoder, decoder), source, target,
                self.channels[source], self.channels[target],
                ContentEncoder.multiple, ContentEncoder.minimum,
            )
            for encoder, decoder, source, target in directions
        })  # fmt: skip

    def check_crop_size(self, height: int, width: int) -> None:
        check_crop(height, width, self.encoder_a, self.discriminator_a)


def sample_code(mean: Tensor) -> Tensor:
    """Sample from N(mean, I) by reparameterization, differentiable in the mean (Sec. 3)."""
    return mean + torch.randn_like(mean)
