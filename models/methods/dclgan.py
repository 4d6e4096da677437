"""Junlin Han, Mehrdad Shoeiby, Lars Petersson, Mohammad Ali Armin: Dual Contrastive Learning for
Unsupervised Image-to-Image Translation. NTIRE, CVPR Workshops 2021. arXiv:2104.07689.

The weights are those of the authors' code: every term is a mean over the two directions, and the
contrastive term has weight 2. There the patch samplers train with Adam's default learning rate,
five times that of the other networks: lr_multipliers.samplers=5.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.checks import check_at_least, check_crop, two_domains
from models.gan_loss import GANLoss, GANLossConfig
from models.losses.contrastive import layers_nce
from models.losses.reconstruction import l1
from models.method import Batch, Method, Update
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.generator_config import ContrastiveGeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator, forward_concatenated
from models.networks.patch_sampler import PatchSampler
from models.translator import build_translators

Embedder = tuple[ResnetGenerator, PatchSampler]
"""The encoder, the first half of a generator, and the patch sampler that embed one domain."""


class DCLGAN(Method):
    """CUT in both directions, each domain with an encoder and a patch sampler of its own."""

    @dataclass(frozen=True)
    class Config(GANLossConfig, Method.Config):
        name: str = "dclgan"  # Han et al. 2021
        generator: ContrastiveGeneratorConfig = field(default_factory=ContrastiveGeneratorConfig)
        discriminator: PatchDiscriminator.Config = field(
            default_factory=lambda: PatchDiscriminator.Config(antialiased=True, init_type="xavier")
        )
        nce_weight: float = 2.0  # weight of the contrastive losses
        identity_weight: float = 1.0  # weight of the identity loss; 0 disables it
        temperature: float = 0.07  # temperature of the contrastive losses
        patches: int = 256  # sampled from each layer
        features: int = 256  # embedding dimensions of a patch

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.nce_weight <= 0:  # otherwise the samplers would have no loss
                raise ValueError(f"method.nce_weight must be more than 0, got {self.nce_weight}")
            check_at_least(0, self, "identity_weight")
            if self.generator.kind != "resnet":
                raise ValueError(
                    "method.generator.kind must be resnet: the contrastive loss reads its features"
                )
            if self.temperature <= 0 or self.patches < 1 or self.features < 1:
                raise ValueError(
                    "method.temperature, method.patches and method.features must be more than 0"
                )

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        (self.a, a_channels), (self.b, b_channels) = two_domains("dclgan", channels)
        if a_channels != b_channels:
            raise ValueError(
                "data.channels must be equal for both domains: each dclgan encoder reads both"
            )
        self.config = config
        self.generator_ab = ResnetGenerator(a_channels, b_channels, config.generator)
        self.generator_ba = ResnetGenerator(b_channels, a_channels, config.generator)
        self.discriminator_a = PatchDiscriminator(a_channels, config.discriminator)
        self.discriminator_b = PatchDiscriminator(b_channels, config.discriminator)
        self.gan_loss_a = GANLoss(config, "a")
        self.gan_loss_b = GANLoss(config, "b")
        widths = self.generator_ab.feature_widths()[1:]  # without the input image
        self.sampler_a = PatchSampler(widths, config.features)
        self.sampler_b = PatchSampler(widths, config.features)

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {
            "generators": nn.ModuleList([self.generator_ab, self.generator_ba]),
            "samplers": nn.ModuleList([self.sampler_a, self.sampler_b]),
            "discriminators": nn.ModuleList([self.discriminator_a, self.discriminator_b]),
        }

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        config = self.config
        real_a, real_b = batch[self.a], batch[self.b]
        idt_a = idt_b = None
        if config.identity_weight:
            fake_b, idt_b = forward_concatenated(self.generator_ab, real_a, real_b)
            fake_a, idt_a = forward_concatenated(self.generator_ba, real_b, real_a)
        else:
            fake_b, fake_a = self.generator_ab(real_a), self.generator_ba(real_b)

        yield Update("discriminators", losses={
            **self.gan_loss_a.discriminator_losses(self.discriminator_a, real_a, fake_a, step),
            **self.gan_loss_b.discriminator_losses(self.discriminator_b, real_b, fake_b, step),
        })  # fmt: skip

        losses: dict[str, Tensor] = {}
        if config.adversarial_weight:  # Eq. 1
            losses["adversarial_b"] = 0.5 * self.gan_loss_b.generator_loss(
                self.discriminator_b, fake_b, step
            )
            losses["adversarial_a"] = 0.5 * self.gan_loss_a.generator_loss(
                self.discriminator_a, fake_a, step
            )
        weight = 0.5 * config.nce_weight
        embedder_a = (self.generator_ab, self.sampler_a)
        embedder_b = (self.generator_ba, self.sampler_b)
        losses["nce_a"] = weight * self.nce_loss(real_a, fake_b, embedder_a, embedder_b)  # Eq. 4
        losses["nce_b"] = weight * self.nce_loss(real_b, fake_a, embedder_b, embedder_a)  # Eq. 5
        if idt_a is not None and idt_b is not None:  # Eq. 6
            losses["identity_a"] = 0.5 * config.identity_weight * l1(idt_a, real_a)
            losses["identity_b"] = 0.5 * config.identity_weight * l1(idt_b, real_b)
        yield Update("generators", "samplers", losses=losses)

    def nce_loss(
        self, source: Tensor, translation: Tensor, source_embedder: Embedder,
        target_embedder: Embedder,
    ) -> Tensor:  # fmt: skip
        """Return the contrastive loss between source and translation, a mean over layers.

        Images of each domain are embedded by the encoder and sampler of their domain (Sec. 3.2).
        """
        (encoder, sampler), (target_encoder, target_sampler) = source_embedder, target_embedder
        with torch.no_grad():  # no gradient reaches the source's features
            features: Sequence[Tensor] = encoder.features(source)[1:]
            patch_ids = sampler.sample_patch_ids(features, self.config.patches)
            keys = sampler(features, patch_ids)
        queries = target_sampler(target_encoder.features(translation)[1:], patch_ids)
        return layers_nce(queries, keys, self.config.temperature)

    def translators(self) -> nn.ModuleDict:
        directions = ((self.generator_ab, self.a, self.b), (self.generator_ba, self.b, self.a))
        return build_translators(self.channels, *directions)

    def check_crop_size(self, height: int, width: int) -> None:
        check_crop(height, width, self.generator_ab, self.discriminator_b)
