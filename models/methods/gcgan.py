"""Huan Fu, Mingming Gong, Chaohui Wang, Kayhan Batmanghelich, Kun Zhang, Dacheng Tao:
Geometry-Consistent Generative Adversarial Networks for One-Sided Unsupervised Domain Mapping.
CVPR 2019. arXiv:1809.05852.

The weights are those of the authors' code: 20 for the geometry consistency, 5 for the identity
loss. As there, each of the two consistency terms detaches the translation that it compares with.
`geometry=none` is the paper's baseline, a plain GAN.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from models.checks import check_at_least, check_crop, check_not_both_zero, two_domains
from models.gan_loss import GANLoss, GANLossConfig
from models.image_pool import ImagePool
from models.losses.reconstruction import l1
from models.method import Batch, Method, Update
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.build import build_generator
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import forward_concatenated
from models.translator import build_translators

Geometry = Literal["rotation", "flip", "none"]


class GcGAN(Method):
    """One-sided translation that commutes with a geometric transformation.

    Rotating (or flipping) an image and then translating it must give the same as translating first.
    Names with `turned` belong to the transformed images.
    """

    @dataclass(frozen=True)
    class Config(GANLossConfig, Method.Config):
        name: str = "gcgan"  # Fu et al. 2019
        geometry: Geometry = "rotation"  # by 90 degrees; flip: upside down; none: plain GAN
        geometry_weight: float = 20.0  # weight of the geometry consistency loss
        identity_weight: float = 5.0  # weight of the identity loss; 0 disables it
        pool_size: int = 50  # past fakes in the image pool; 0: discriminators see new fakes only
        generator: GeneratorConfig = field(default_factory=GeneratorConfig)
        discriminator: PatchDiscriminator.Config = field(default_factory=PatchDiscriminator.Config)

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(0, self, "geometry_weight", "identity_weight", "pool_size")
            check_not_both_zero(self, "adversarial_weight", "geometry_weight")
            if self.geometry == "none" and not self.adversarial_weight:
                raise ValueError(
                    "method.geometry=none leaves only the adversarial loss, so "
                    "method.adversarial_weight must be more than 0"
                )

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        (self.a, a_channels), (self.b, b_channels) = two_domains("gcgan", channels)
        if config.identity_weight and a_channels != b_channels:
            raise ValueError(
                f"method.identity_weight needs domains of equal channels ({self.a} has "
                f"{a_channels}, {self.b} has {b_channels}); set method.identity_weight=0"
            )
        self.config = config
        self.generator_ab = build_generator(a_channels, b_channels, config.generator)
        self.discriminator_b = PatchDiscriminator(b_channels, config.discriminator)
        self.gan_loss_b = GANLoss(config, "b")
        self.image_pool_b = ImagePool(config.pool_size)
        if config.geometry != "none":
            self.discriminator_turned = PatchDiscriminator(b_channels, config.discriminator)
            self.gan_loss_turned = GANLoss(config, "turned")
            self.image_pool_turned = ImagePool(config.pool_size)

    def optimizer_groups(self) -> dict[str, nn.Module]:
        discriminators = [self.discriminator_b]
        if self.config.geometry != "none":
            discriminators.append(self.discriminator_turned)
        return {"generator": self.generator_ab, "discriminators": nn.ModuleList(discriminators)}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        config = self.config
        if config.geometry == "none":
            yield from self.gan_only_updates(batch, step)
            return
        real_a, real_b = batch[self.a], batch[self.b]
        turned_a, turned_b = self.transform(real_a), self.transform(real_b)

        losses: dict[str, Tensor] = {}
        if config.identity_weight:
            fake_b, fake_turned, idt_b, idt_turned = forward_concatenated(
                self.generator_ab, real_a, turned_a, real_b, turned_b
            )
            losses["identity_b"] = config.identity_weight * l1(idt_b, real_b)
            losses["identity_turned"] = config.identity_weight * l1(idt_turned, turned_b)
        else:
            fake_b, fake_turned = forward_concatenated(self.generator_ab, real_a, turned_a)
        if config.adversarial_weight:  # Eq. 1, for both images
            losses["adversarial_b"] = self.gan_loss_b.generator_loss(
                self.discriminator_b, fake_b, step
            )
            losses["adversarial_turned"] = self.gan_loss_turned.generator_loss(
                self.discriminator_turned, fake_turned, step
            )
        if config.geometry_weight:  # Eq. 2
            weight = config.geometry_weight
            losses["geometry_b"] = weight * l1(fake_b, self.inverse_transform(fake_turned).detach())
            losses["geometry_turned"] = weight * l1(fake_turned, self.transform(fake_b).detach())
        yield Update("generator", losses=losses)

        pooled_fake_b = self.image_pool_b(fake_b)
        pooled_fake_turned = self.image_pool_turned(fake_turned)
        yield Update("discriminators", losses={
            **self.gan_loss_b.discriminator_losses(
                self.discriminator_b, real_b, pooled_fake_b, step
            ),
            **self.gan_loss_turned.discriminator_losses(
                self.discriminator_turned, turned_b, pooled_fake_turned, step
            ),
        })  # fmt: skip

    def gan_only_updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the updates of the baseline: a GAN, with the identity loss where it is enabled."""
        real_a, real_b = batch[self.a], batch[self.b]

        losses: dict[str, Tensor] = {}
        if self.config.identity_weight:
            fake_b, idt_b = forward_concatenated(self.generator_ab, real_a, real_b)
            losses["identity_b"] = self.config.identity_weight * l1(idt_b, real_b)
        else:
            fake_b = self.generator_ab(real_a)
        losses["adversarial_b"] = self.gan_loss_b.generator_loss(self.discriminator_b, fake_b, step)
        yield Update("generator", losses=losses)

        pooled_fake_b = self.image_pool_b(fake_b)
        yield Update(
            "discriminators",
            losses=self.gan_loss_b.discriminator_losses(
                self.discriminator_b, real_b, pooled_fake_b, step
            ),
        )

    def transform(self, image: Tensor) -> Tensor:
        """Return [B, C, H, W] rotated clockwise by 90 degrees, or flipped upside down."""
        rotates = self.config.geometry == "rotation"
        return torch.rot90(image, -1, (2, 3)) if rotates else image.flip(2)

    def inverse_transform(self, image: Tensor) -> Tensor:
        """Undo `transform`."""
        rotates = self.config.geometry == "rotation"
        return torch.rot90(image, 1, (2, 3)) if rotates else image.flip(2)

    def translators(self) -> nn.ModuleDict:
        return build_translators(self.channels, (self.generator_ab, self.a, self.b))

    def check_crop_size(self, height: int, width: int) -> None:
        check_crop(height, width, self.generator_ab, self.discriminator_b)
