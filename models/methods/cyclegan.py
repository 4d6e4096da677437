"""Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros: Unpaired Image-to-Image Translation
using Cycle-Consistent Adversarial Networks. ICCV 2017. arXiv:1703.10593.

Two generators, G: A -> B (`to_b`) and F: B -> A (`to_a`), and two discriminators, D_Y (`judge_b`) and
D_X (`judge_a`). Where paper and published code differ, this follows the code; docs/decisions.md
lists the places.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

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


class CycleGAN(Method):
    """Adversarial losses both ways, made one-to-one by the cycle A -> B -> A and B -> A -> B."""

    @dataclass(frozen=True)
    class Config(AdversaryConfig, Method.Config):
        name: str = "cyclegan"  # Zhu et al. 2017
        cycle_weight: float = 10.0  # lambda of Eq. 3; 0 leaves the cycle out
        identity_weight: float = 0.5  # identity loss as a share of cycle_weight; 0 leaves it out
        identity_every: int = 1  # identity only every so many steps, as many times as strong
        history: int = 50  # past fakes kept for each discriminator; 0 shows it new ones only
        generator: ResnetGenerator.Config = field(default_factory=ResnetGenerator.Config)
        discriminator: PatchDiscriminator.Config = field(default_factory=PatchDiscriminator.Config)

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(0, self, "cycle_weight", "identity_weight", "history")
            at_least(1, self, "identity_every")
            not_both_zero(self, "adversarial_weight", "cycle_weight")

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        (self.a, a_channels), (self.b, b_channels) = two_domains("cyclegan", channels)
        if config.identity_weight and config.cycle_weight and a_channels != b_channels:
            raise ValueError(
                f"the identity loss needs domains of equal channels ({self.a} has {a_channels}, "
                f"{self.b} has {b_channels}); set method.identity_weight=0"
            )
        self.to_b = build_generator(a_channels, b_channels, config.generator)
        self.to_a = build_generator(b_channels, a_channels, config.generator)
        self.judge_a = PatchDiscriminator(a_channels, config.discriminator)
        self.judge_b = PatchDiscriminator(b_channels, config.discriminator)
        self.game_a = Adversary(config, "a")
        self.game_b = Adversary(config, "b")
        self.history_a = ImageHistory(config.history)
        self.history_b = ImageHistory(config.history)

    def players(self) -> dict[str, nn.Module]:
        return {
            "generators": nn.ModuleList([self.to_b, self.to_a]),
            "discriminators": nn.ModuleList([self.judge_a, self.judge_b]),
        }

    def turns(self, batch: Batch, step: int) -> Iterator[Turn]:
        config = self.config
        real_a, real_b = batch[self.a], batch[self.b]

        if self.learns_identity(step):
            fake_b, same_b = together(self.to_b, real_a, real_b)
            fake_a, same_a = together(self.to_a, real_b, real_a)
        else:
            fake_b, fake_a = self.to_b(real_a), self.to_a(real_b)
            same_a = same_b = None

        losses: dict[str, Tensor] = {}
        if config.adversarial_weight:  # Eq. 1
            losses["adversarial_b"] = self.game_b.generator(self.judge_b, fake_b, step)
            losses["adversarial_a"] = self.game_a.generator(self.judge_a, fake_a, step)
        if config.cycle_weight:  # Eq. 2 and 3
            losses["cycle_a"] = config.cycle_weight * l1(self.to_a(fake_b), real_a)
            losses["cycle_b"] = config.cycle_weight * l1(self.to_b(fake_a), real_b)
        if same_a is not None and same_b is not None:  # Sec. 5.2, L_identity
            weight = config.cycle_weight * config.identity_weight * config.identity_every
            losses["identity_a"] = weight * l1(same_a, real_a)
            losses["identity_b"] = weight * l1(same_b, real_b)
        yield Turn("generators", losses=losses)

        seen_a, seen_b = self.history_a(fake_a), self.history_b(fake_b)  # Sec. 7.1
        yield Turn("discriminators", losses={
            **self.game_a.discriminator(self.judge_a, real_a, seen_a, step),
            **self.game_b.discriminator(self.judge_b, real_b, seen_b, step),
        })  # fmt: skip

    def learns_identity(self, step: int) -> bool:
        """Say whether step number `step` has the identity loss."""
        config = self.config
        weighs = config.cycle_weight > 0 and config.identity_weight > 0
        return weighs and step % config.identity_every == 0

    def lazy(self) -> dict[str, tuple[str, int]]:
        period = self.config.identity_every if self.config.identity_weight else 1
        return {**super().lazy(), "generators": ("identity_every", period)}

    def variant(self, step: int) -> Hashable:
        return self.learns_identity(step), self.game_b.penalises(step)

    def translators(self) -> nn.ModuleDict:
        ways = ((self.to_b, self.a, self.b), (self.to_a, self.b, self.a))
        return deterministic(self.channels, *ways)

    def check_size(self, height: int, width: int) -> None:
        check_crop(height, width, self.to_b, self.judge_a)
