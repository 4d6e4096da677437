"""Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros: Unpaired Image-to-Image Translation
using Cycle-Consistent Adversarial Networks. ICCV 2017. arXiv:1703.10593.

The paper's domains X and Y are a and b here. Two generators, G: X -> Y (`generator_ab`) and
F: Y -> X (`generator_ba`), and two discriminators, D_Y (`discriminator_b`) and D_X
(`discriminator_a`). The suffix of a discriminator or loss is the domain of the images that it
scores; pytorch-CycleGAN-and-pix2pix calls `discriminator_b` D_A and `identity_b` idt_A. Where the
paper and that code differ, this follows the code, with the exceptions in docs/decisions.md.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

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


class CycleGAN(Method):
    """Adversarial losses in both directions, with cycle consistency A -> B -> A and B -> A -> B."""

    @dataclass(frozen=True)
    class Config(GANLossConfig, Method.Config):
        name: str = "cyclegan"  # Zhu et al. 2017
        cycle_weight: float = 10.0  # weight of the cycle loss, lambda of Eq. 3; 0 disables it
        identity_weight: float = 0.5  # identity loss as a fraction of cycle_weight; 0 disables it
        identity_every: int = 1  # apply it every N steps, N times as strong (lazy regularization)
        pool_size: int = 50  # past fakes in the image pool; 0: discriminators see new fakes only
        generator: GeneratorConfig = field(default_factory=GeneratorConfig)
        discriminator: PatchDiscriminator.Config = field(default_factory=PatchDiscriminator.Config)

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(0, self, "cycle_weight", "identity_weight", "pool_size")
            check_at_least(1, self, "identity_every")
            check_not_both_zero(self, "adversarial_weight", "cycle_weight")

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        # X and Y, in the order of data.domains
        (self.a, a_channels), (self.b, b_channels) = two_domains("cyclegan", channels)
        if config.identity_weight and config.cycle_weight and a_channels != b_channels:
            raise ValueError(
                f"method.identity_weight needs domains of equal channels ({self.a} has "
                f"{a_channels}, {self.b} has {b_channels}); set method.identity_weight=0"
            )
        self.generator_ab = build_generator(a_channels, b_channels, config.generator)  # G
        self.generator_ba = build_generator(b_channels, a_channels, config.generator)  # F
        self.discriminator_a = PatchDiscriminator(a_channels, config.discriminator)  # D_X
        self.discriminator_b = PatchDiscriminator(b_channels, config.discriminator)  # D_Y
        self.gan_loss_a = GANLoss(config, "a")  # L_GAN(F, D_X)
        self.gan_loss_b = GANLoss(config, "b")  # L_GAN(G, D_Y)
        self.image_pool_a = ImagePool(config.pool_size)
        self.image_pool_b = ImagePool(config.pool_size)

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {
            "generators": nn.ModuleList([self.generator_ab, self.generator_ba]),
            "discriminators": nn.ModuleList([self.discriminator_a, self.discriminator_b]),
        }

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        config = self.config
        real_a, real_b = batch[self.a], batch[self.b]

        if self.has_identity_at(step):
            fake_b, idt_b = forward_concatenated(self.generator_ab, real_a, real_b)  # G(x), G(y)
            fake_a, idt_a = forward_concatenated(self.generator_ba, real_b, real_a)  # F(y), F(x)
        else:
            fake_b, fake_a = self.generator_ab(real_a), self.generator_ba(real_b)
            idt_a = idt_b = None

        losses: dict[str, Tensor] = {}
        if config.adversarial_weight:  # Eq. 1, by default as least squares (Sec. 4)
            losses["adversarial_b"] = self.gan_loss_b.generator_loss(
                self.discriminator_b, fake_b, step
            )
            losses["adversarial_a"] = self.gan_loss_a.generator_loss(
                self.discriminator_a, fake_a, step
            )
        if config.cycle_weight:  # Eq. 2, means: |F(G(x)) - x| + |G(F(y)) - y|
            losses["cycle_a"] = config.cycle_weight * l1(self.generator_ba(fake_b), real_a)
            losses["cycle_b"] = config.cycle_weight * l1(self.generator_ab(fake_a), real_b)
        if idt_a is not None and idt_b is not None:  # Sec. 5.2, L_identity: |F(x) - x| + |G(y) - y|
            weight = config.cycle_weight * config.identity_weight * config.identity_every
            losses["identity_a"] = weight * l1(idt_a, real_a)
            losses["identity_b"] = weight * l1(idt_b, real_b)
        yield Update("generators", losses=losses)

        # Sec. 4: the discriminators see the fakes from before the generators' update, and past ones.
        pooled_fake_a = self.image_pool_a(fake_a)
        pooled_fake_b = self.image_pool_b(fake_b)
        yield Update("discriminators", losses={  # Eq. 1 for D_X and D_Y; lsgan is halved (Sec. 7.1)
            **self.gan_loss_a.discriminator_losses(
                self.discriminator_a, real_a, pooled_fake_a, step
            ),
            **self.gan_loss_b.discriminator_losses(
                self.discriminator_b, real_b, pooled_fake_b, step
            ),
        })  # fmt: skip

    @property
    def has_identity(self) -> bool:
        """Return whether any step has the identity loss."""
        return self.config.cycle_weight > 0 and self.config.identity_weight > 0

    def has_identity_at(self, step: int) -> bool:
        """Return whether step number `step` has the identity loss."""
        return self.has_identity and step % self.config.identity_every == 0

    def lazy_terms(self) -> dict[str, tuple[str, int]]:
        period = self.config.identity_every if self.has_identity else 1
        return {**super().lazy_terms(), "generators": ("identity_every", period)}

    def cuda_graph_key(self, step: int) -> Hashable:
        # Steps with and without the identity loss are different graphs.
        return self.has_identity_at(step), super().cuda_graph_key(step)

    def translators(self) -> nn.ModuleDict:
        directions = ((self.generator_ab, self.a, self.b), (self.generator_ba, self.b, self.a))
        return build_translators(self.channels, *directions)

    def check_crop_size(self, height: int, width: int) -> None:
        # The networks of the other direction have the same options.
        check_crop(height, width, self.generator_ab, self.discriminator_a)
