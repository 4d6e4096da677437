"""Huan Fu, Mingming Gong, Chaohui Wang, Kayhan Batmanghelich, Kun Zhang, Dacheng Tao:
Geometry-Consistent Generative Adversarial Networks for One-Sided Unsupervised Domain Mapping.
CVPR 2019. arXiv:1809.05852.

The weights are those of the authors' code: 20 for the consistency, 5 for the identity. Its two
directions of the consistency stop each other's gradient, as they do here. `geometry=none` is the
baseline that the paper compares itself with, a GAN alone.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from models.checks import at_least, check_crop, not_both_zero, two_domains
from models.gan_loss import Adversary, AdversaryConfig
from models.image_pool import ImageHistory
from models.losses.reconstruction import l1
from models.method import Batch, Method, Turn
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.build import build_generator
from models.networks.generators.resnet_generator import ResnetGenerator, together
from models.translator import deterministic

Geometry = Literal["rotation", "flip", "none"]


class GcGAN(Method):
    """One generator, no way back: turning an image before or after its translation is the same."""

    @dataclass(frozen=True)
    class Config(AdversaryConfig, Method.Config):
        name: str = "gcgan"  # Fu et al. 2019
        geometry: Geometry = "rotation"  # by 90 degrees; flip is upside down; none, a GAN alone
        geometry_weight: float = 20.0  # of translating the turned image alike
        identity_weight: float = 5.0  # of leaving the target's images as they are; 0 leaves it out
        history: int = 50  # past fakes kept for each discriminator; 0 shows it new ones only
        generator: ResnetGenerator.Config = field(default_factory=ResnetGenerator.Config)
        discriminator: PatchDiscriminator.Config = field(default_factory=PatchDiscriminator.Config)

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(0, self, "geometry_weight", "identity_weight", "history")
            not_both_zero(self, "adversarial_weight", "geometry_weight")
            if self.geometry == "none" and not self.adversarial_weight:
                raise ValueError(
                    "method.geometry=none leaves only the adversary to learn from; "
                    "method.adversarial_weight must be more than 0"
                )

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        (self.a, a_channels), (self.b, b_channels) = two_domains("gcgan", channels)
        if config.identity_weight and a_channels != b_channels:
            raise ValueError(
                f"the identity loss needs domains of equal channels ({self.a} has {a_channels}, "
                f"{self.b} has {b_channels}); set method.identity_weight=0"
            )
        self.config = config
        self.to_b = build_generator(a_channels, b_channels, config.generator)
        self.judge_b = PatchDiscriminator(b_channels, config.discriminator)
        self.game_b = Adversary(config, "b")
        self.history_b = ImageHistory(config.history)
        if config.geometry != "none":
            self.judge_turned = PatchDiscriminator(b_channels, config.discriminator)
            self.game_turned = Adversary(config, "turned")
            self.history_turned = ImageHistory(config.history)

    def players(self) -> dict[str, nn.Module]:
        alone = self.config.geometry == "none"
        judges = [self.judge_b] if alone else [self.judge_b, self.judge_turned]
        return {"generator": self.to_b, "discriminators": nn.ModuleList(judges)}

    def turns(self, batch: Batch, step: int) -> Iterator[Turn]:
        config = self.config
        if config.geometry == "none":
            yield from self.alone(batch, step)
            return
        real_a, real_b = batch[self.a], batch[self.b]
        turned_a, turned_b = self.turned(real_a), self.turned(real_b)

        losses: dict[str, Tensor] = {}
        if config.identity_weight:
            fake_b, fake_turned, same_b, same_turned = together(
                self.to_b, real_a, turned_a, real_b, turned_b
            )
            losses["identity_b"] = config.identity_weight * l1(same_b, real_b)
            losses["identity_turned"] = config.identity_weight * l1(same_turned, turned_b)
        else:
            fake_b, fake_turned = together(self.to_b, real_a, turned_a)
        if config.adversarial_weight:  # Eq. 1, for both
            losses["adversarial_b"] = self.game_b.generator(self.judge_b, fake_b, step)
            losses["adversarial_turned"] = self.game_turned.generator(
                self.judge_turned, fake_turned, step
            )
        if config.geometry_weight:  # Eq. 2
            weight = config.geometry_weight
            losses["geometry_b"] = weight * l1(fake_b, self.turned_back(fake_turned).detach())
            losses["geometry_turned"] = weight * l1(fake_turned, self.turned(fake_b).detach())
        yield Turn("generator", losses=losses)

        seen_b, seen_turned = self.history_b(fake_b), self.history_turned(fake_turned)
        yield Turn("discriminators", losses={
            **self.game_b.discriminator(self.judge_b, real_b, seen_b, step),
            **self.game_turned.discriminator(self.judge_turned, turned_b, seen_turned, step),
        })  # fmt: skip

    def alone(self, batch: Batch, step: int) -> Iterator[Turn]:
        """Yield the turns of the baseline: nothing is turned, the identity alone keeps the content."""
        real_a, real_b = batch[self.a], batch[self.b]

        losses: dict[str, Tensor] = {}
        if self.config.identity_weight:
            fake_b, same_b = together(self.to_b, real_a, real_b)
            losses["identity_b"] = self.config.identity_weight * l1(same_b, real_b)
        else:
            fake_b = self.to_b(real_a)
        losses["adversarial_b"] = self.game_b.generator(self.judge_b, fake_b, step)
        yield Turn("generator", losses=losses)

        seen_b = self.history_b(fake_b)
        yield Turn(
            "discriminators",
            losses=self.game_b.discriminator(self.judge_b, real_b, seen_b, step),
        )

    def turned(self, image: Tensor) -> Tensor:
        """Return [B, C, H, W] turned clockwise by 90 degrees, or upside down."""
        rotates = self.config.geometry == "rotation"
        return torch.rot90(image, -1, (2, 3)) if rotates else image.flip(2)

    def turned_back(self, image: Tensor) -> Tensor:
        """Undo `turned`."""
        rotates = self.config.geometry == "rotation"
        return torch.rot90(image, 1, (2, 3)) if rotates else image.flip(2)

    def variant(self, step: int) -> Hashable:
        return self.game_b.penalises(step)

    def translators(self) -> nn.ModuleDict:
        return deterministic(self.channels, (self.to_b, self.a, self.b))

    def check_size(self, height: int, width: int) -> None:
        check_crop(height, width, self.to_b, self.judge_b)
