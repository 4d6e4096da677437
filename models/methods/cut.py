"""Taesung Park, Alexei A. Efros, Richard Zhang, Jun-Yan Zhu: Contrastive Learning for Unpaired
Image-to-Image Translation. ECCV 2020. arXiv:2007.15651.

The weights are those of the authors' code, which halves the two contrastive losses where the paper
adds them (Eq. 5), and has a learning rate of 0.0002 where the paper has 0.002.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.checks import check_at_least, check_crop, two_domains
from models.gan_loss import GANLoss, GANLossConfig
from models.losses.contrastive import layers_nce
from models.method import Batch, Method, Update
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.generator_config import ContrastiveGeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator, forward_concatenated
from models.networks.patch_sampler import PatchSampler
from models.translator import build_translators


class CUT(Method):
    """One-sided translation: each output patch must match its own patch of the input.

    A contrastive loss compares features of the patches; an inverse generator is not needed.
    """

    @dataclass(frozen=True)
    class Config(GANLossConfig, Method.Config):
        name: str = "cut"  # Park et al. 2020
        generator: ContrastiveGeneratorConfig = field(default_factory=ContrastiveGeneratorConfig)
        discriminator: PatchDiscriminator.Config = field(
            default_factory=lambda: PatchDiscriminator.Config(antialiased=True, init_type="xavier")
        )
        nce_weight: float = 1.0  # weight of the contrastive loss: 1 in CUT, 10 in FastCUT
        nce_identity: bool = True  # contrastive loss also for translated images of the target
        temperature: float = 0.07  # temperature of the contrastive loss
        patches: int = 256  # sampled from each layer
        features: int = 256  # embedding dimensions of a patch
        flip_equivariance: bool = False  # flip half of the inputs, and their features back

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(0, self, "nce_weight")
            if self.temperature <= 0 or self.patches < 1 or self.features < 1:
                raise ValueError(
                    "method.temperature, method.patches and method.features must be more than 0"
                )

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        (self.a, a_channels), (self.b, b_channels) = two_domains("cut", channels)
        if a_channels != b_channels:
            raise ValueError(
                "data.channels must be equal for both domains: cut encodes them with one encoder"
            )
        self.generator_ab = ResnetGenerator(a_channels, b_channels, config.generator)
        self.discriminator_b = PatchDiscriminator(b_channels, config.discriminator)
        self.gan_loss_b = GANLoss(config, "b")
        self.sampler = PatchSampler(self.generator_ab.feature_widths(), config.features)

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {
            "generator": self.generator_ab,
            "sampler": self.sampler,
            "discriminator": self.discriminator_b,
        }

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        config = self.config
        real_a, real_b = batch[self.a], batch[self.b]
        flip = config.flip_equivariance and torch.rand(1, device=real_a.device) < 0.5

        if config.nce_identity:
            fake_b, idt_b = forward_concatenated(
                self.generator_ab, flip_where(real_a, flip), flip_where(real_b, flip)
            )
        else:
            fake_b, idt_b = self.generator_ab(flip_where(real_a, flip)), None

        yield Update("discriminator", losses=self.gan_loss_b.discriminator_losses(
            self.discriminator_b, real_b, fake_b, step
        ))  # fmt: skip

        losses: dict[str, Tensor] = {}
        if config.adversarial_weight:  # Eq. 1
            losses["adversarial_b"] = self.gan_loss_b.generator_loss(
                self.discriminator_b, fake_b, step
            )
        weight = config.nce_weight * (0.5 if config.nce_identity else 1.0)
        losses["nce_a"] = weight * self.nce_loss(real_a, fake_b, flip)  # Eq. 4
        if idt_b is not None:  # last term of Eq. 5
            losses["nce_b"] = weight * self.nce_loss(real_b, idt_b, flip)
        yield Update("generator", "sampler", losses=losses)

    def nce_loss(self, source: Tensor, translation: Tensor, flip: Tensor | bool) -> Tensor:
        """Return the contrastive loss between source and translation, a mean over layers.

        `flip` is whether the translation was made of the flipped source.
        """
        translation_features = [
            flip_where(layer, flip) for layer in self.generator_ab.features(translation)
        ]
        with torch.no_grad():  # no gradient reaches the source's features
            source_features = self.generator_ab.features(source)
            patch_ids = self.sampler.sample_patch_ids(source_features, self.config.patches)
            keys = self.sampler(source_features, patch_ids)
        queries = self.sampler(translation_features, patch_ids)
        return layers_nce(queries, keys, self.config.temperature)

    def translators(self) -> nn.ModuleDict:
        return build_translators(self.channels, (self.generator_ab, self.a, self.b))

    def check_crop_size(self, height: int, width: int) -> None:
        check_crop(height, width, self.generator_ab, self.discriminator_b)


def flip_where(x: Tensor, flip: Tensor | bool) -> Tensor:
    """Return [B, C, H, W], flipped left to right if `flip` (a boolean tensor, or False) is true."""
    return torch.where(flip, x.flip(3), x) if isinstance(flip, Tensor) else x
