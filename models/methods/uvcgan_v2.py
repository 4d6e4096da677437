"""Dmitrii Torbunov, Yi Huang, Huan-Hsin Tseng, Haiwang Yu, Jin Huang, Shinjae Yoo, Meifeng Lin,
Brett Viren, Yihui Ren: Rethinking CycleGAN: Improving Quality of GANs for Unpaired Image-to-Image
Translation. 2023. arXiv:2303.16280. Version 1: UVCGAN, WACV 2023, arXiv:2203.02557.

CycleGAN's losses with another generator, a discriminator with feature queues, a gradient penalty,
and an exponential moving average of the weights as the result. The paper's images are in [0, 1],
here they are in [-1, 1]: distances between them are twice as large, so weights of distances are
half the paper's; gradients are half as large, so the weight of their square is four times the
paper's.

Generators are best initialized with weights of `inpainting` (init_from=RUN); see
models/methods/inpainting.py.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from models.checks import check_at_least, check_crop, check_not_both_zero, two_domains
from models.gan_loss import GANLoss, GANLossConfig, PenaltyName, PenaltyScores
from models.losses.reconstruction import l1
from models.method import Batch, Method, Update
from models.networks.discriminators.batch_head_discriminator import BatchHeadDiscriminator
from models.networks.generators.modulated_unet import ModulatedUnet
from models.networks.generators.resnet_generator import forward_concatenated
from models.translator import build_translators


class UVCGANv2(Method):
    """Cycle-consistent translation by U-Nets with transformers and queue-based discriminators."""

    @dataclass(frozen=True)
    class Config(GANLossConfig, Method.Config):
        name: str = "uvcgan_v2"  # Torbunov et al. 2023
        penalty: PenaltyName = "zero_centered"  # gradient penalty between real and fake images
        penalty_weight: float = 4.0  # 4 is the paper's lambda_GP of 1; 0.04 is its 0.01
        penalty_scores: PenaltyScores = "mean"  # over an image's patch scores, before the gradient
        cycle_weight: float = 2.5  # 2.5 is the paper's lambda_cyc of 5; 5 is its 10
        identity_weight: float = 0.5  # identity loss as a fraction of cycle_weight; 0 disables it
        consistency_weight: float = 0.0  # fraction of cycle_weight: low-resolution L1 to input
        consistency_size: int = 32  # longer side of that low resolution in pixels
        generator: ModulatedUnet.Config = field(default_factory=ModulatedUnet.Config)
        discriminator: BatchHeadDiscriminator.Config = field(
            default_factory=BatchHeadDiscriminator.Config
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(0, self, "cycle_weight", "identity_weight", "consistency_weight")
            check_at_least(1, self, "consistency_size")
            check_not_both_zero(self, "adversarial_weight", "cycle_weight")

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        (self.a, a_channels), (self.b, b_channels) = two_domains("uvcgan_v2", channels)
        compares_domains = config.identity_weight or config.consistency_weight
        if compares_domains and config.cycle_weight and a_channels != b_channels:
            raise ValueError(
                "method.identity_weight and method.consistency_weight compare inputs with "
                f"outputs, which needs equal channels ({self.a} has {a_channels}, {self.b} has "
                f"{b_channels}); set method.identity_weight=0 and method.consistency_weight=0"
            )
        self.generator_ab = ModulatedUnet(a_channels, b_channels, config.generator)
        self.generator_ba = ModulatedUnet(b_channels, a_channels, config.generator)
        self.discriminator_a = BatchHeadDiscriminator(a_channels, config.discriminator)
        self.discriminator_b = BatchHeadDiscriminator(b_channels, config.discriminator)
        self.gan_loss_a = GANLoss(config, "a")
        self.gan_loss_b = GANLoss(config, "b")

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {
            "generators": nn.ModuleList([self.generator_ab, self.generator_ba]),
            "discriminators": nn.ModuleList([self.discriminator_a, self.discriminator_b]),
        }

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        config = self.config
        real_a, real_b = batch[self.a], batch[self.b]

        if config.cycle_weight and config.identity_weight:
            fake_b, idt_b = forward_concatenated(self.generator_ab, real_a, real_b)
            fake_a, idt_a = forward_concatenated(self.generator_ba, real_b, real_a)
        else:
            fake_b, fake_a = self.generator_ab(real_a), self.generator_ba(real_b)
            idt_a = idt_b = None

        losses: dict[str, Tensor] = {}
        if config.adversarial_weight:  # L_GAN, with past fakes in the batch
            losses["adversarial_b"] = self.gan_loss_b.generator_loss(
                self.discriminator_b, fake_b, step
            )
            losses["adversarial_a"] = self.gan_loss_a.generator_loss(
                self.discriminator_a, fake_a, step
            )
        if config.cycle_weight:  # L_cyc
            losses["cycle_a"] = config.cycle_weight * l1(self.generator_ba(fake_b), real_a)
            losses["cycle_b"] = config.cycle_weight * l1(self.generator_ab(fake_a), real_b)
        if idt_a is not None and idt_b is not None:  # L_idt
            weight = config.cycle_weight * config.identity_weight
            losses["identity_a"] = weight * l1(idt_a, real_a)
            losses["identity_b"] = weight * l1(idt_b, real_b)
        if config.cycle_weight and config.consistency_weight:  # L_consist
            weight, size = config.cycle_weight * config.consistency_weight, config.consistency_size
            small_fake_a, small_fake_b = downscaled(fake_a, size), downscaled(fake_b, size)
            small_real_a, small_real_b = downscaled(real_a, size), downscaled(real_b, size)
            losses["consistency_a"] = weight * l1(small_fake_b, small_real_a)
            losses["consistency_b"] = weight * l1(small_fake_a, small_real_b)
        yield Update("generators", losses=losses)

        yield Update("discriminators", losses={  # L_disc and L_GP; updates the queues
            **self.gan_loss_a.discriminator_losses(self.discriminator_a, real_a, fake_a, step),
            **self.gan_loss_b.discriminator_losses(self.discriminator_b, real_b, fake_b, step),
        })  # fmt: skip

    def cuda_graph_key(self, step: int) -> Hashable:
        return self.discriminator_a.past_real.filled, super().cuda_graph_key(step)

    def translators(self) -> nn.ModuleDict:
        directions = ((self.generator_ab, self.a, self.b), (self.generator_ba, self.b, self.a))
        return build_translators(self.channels, *directions)

    def check_crop_size(self, height: int, width: int) -> None:
        check_crop(height, width, self.generator_ab, self.discriminator_b)


def downscaled(image: Tensor, size: int) -> Tensor:
    """Return [B, C, H, W] downscaled to a longer side of `size` pixels; never enlarged."""
    height, width = image.shape[2:]
    scale = min(1.0, size / max(height, width))
    sides = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(image.float(), sides, mode="bilinear", antialias=True)
