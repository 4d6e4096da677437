"""Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros: Unpaired Image-to-Image Translation
using Cycle-Consistent Adversarial Networks. ICCV 2017. arXiv:1703.10593.

Two generators, G: A -> B (`to_b`) and F: B -> A (`to_a`), and two discriminators, D_Y (`judge_b`) and
D_X (`judge_a`). Where paper and published code differ, this follows the code; docs/decisions.md
lists the places.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from models.history import ImageHistory
from models.losses.adversarial import OBJECTIVES, ObjectiveName
from models.losses.reconstruction import l1
from models.method import Batch, Method, Turn
from models.networks.patch_discriminator import PatchDiscriminator
from models.networks.resnet_generator import ResnetGenerator, together
from models.translator import DeterministicTranslator


class CycleGAN(Method):
    """Adversarial losses both ways, made one-to-one by the cycle A -> B -> A and B -> A -> B."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        name: str = "cyclegan"  # Zhu et al. 2017
        objective: ObjectiveName = "lsgan"  # lsgan is the paper's
        adversarial_weight: float = 1.0  # weight of the adversarial loss; 0 leaves it out
        cycle_weight: float = 10.0  # lambda of Eq. 3; 0 leaves the cycle out
        identity_weight: float = 0.5  # identity loss as a share of cycle_weight; 0 leaves it out
        identity_every: int = 1  # identity only every so many steps, as many times as strong
        history: int = 50  # past fakes kept for each discriminator; 0 shows it new ones only
        generator: ResnetGenerator.Config = field(default_factory=ResnetGenerator.Config)
        discriminator: PatchDiscriminator.Config = field(default_factory=PatchDiscriminator.Config)

        def __post_init__(self) -> None:
            for term in ("adversarial_weight", "cycle_weight", "identity_weight", "history"):
                if getattr(self, term) < 0:
                    raise ValueError(f"method.{term} must be 0 or more, got {getattr(self, term)}")
            if self.identity_every < 1:
                raise ValueError(
                    f"method.identity_every must be at least 1, got {self.identity_every}"
                )
            if not self.adversarial_weight and not self.cycle_weight:
                raise ValueError(
                    "method.adversarial_weight and method.cycle_weight cannot both be 0"
                )

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        if len(channels) != 2:
            raise ValueError(
                f"cyclegan translates between 2 domains, data.domains names {len(channels)}"
            )
        (self.a, a_channels), (self.b, b_channels) = channels.items()
        if config.identity_weight and config.cycle_weight and a_channels != b_channels:
            raise ValueError(
                f"the identity loss needs domains of equal channels ({self.a} has {a_channels}, "
                f"{self.b} has {b_channels}); set method.identity_weight=0"
            )
        self.to_b = ResnetGenerator(a_channels, b_channels, config.generator)
        self.to_a = ResnetGenerator(b_channels, a_channels, config.generator)
        self.judge_a = PatchDiscriminator(a_channels, config.discriminator)
        self.judge_b = PatchDiscriminator(b_channels, config.discriminator)
        self.history_a = ImageHistory(config.history)
        self.history_b = ImageHistory(config.history)

    def players(self) -> dict[str, nn.Module]:
        return {
            "generators": nn.ModuleList([self.to_b, self.to_a]),
            "discriminators": nn.ModuleList([self.judge_a, self.judge_b]),
        }

    def turns(self, batch: Batch, step: int) -> Iterator[Turn]:
        config, adversarial = self.config, OBJECTIVES[self.config.objective]
        real_a, real_b = batch[self.a], batch[self.b]

        if self.variant(step) == "identity":
            fake_b, same_b = together(self.to_b, real_a, real_b)
            fake_a, same_a = together(self.to_a, real_b, real_a)
        else:
            fake_b, fake_a = self.to_b(real_a), self.to_a(real_b)
            same_a = same_b = None

        losses: dict[str, Tensor] = {}
        if config.adversarial_weight:  # Eq. 1
            weight = config.adversarial_weight
            losses["adversarial_b"] = weight * adversarial.generator(self.judge_b(fake_b))
            losses["adversarial_a"] = weight * adversarial.generator(self.judge_a(fake_a))
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
            "discriminator_a": adversarial.discriminator(self.judge_a(real_a), self.judge_a(seen_a)),
            "discriminator_b": adversarial.discriminator(self.judge_b(real_b), self.judge_b(seen_b)),
        })  # fmt: skip

    def variant(self, step: int) -> str:
        config = self.config
        weighs = config.cycle_weight and config.identity_weight
        return "identity" if weighs and (step + 1) % config.identity_every == 0 else "plain"

    def translators(self) -> nn.ModuleDict:
        pairs = ((self.to_b, self.a, self.b), (self.to_a, self.b, self.a))
        return nn.ModuleDict({
            f"{source}_to_{target}": DeterministicTranslator(
                generator, source, target, self.channels[source], self.channels[target],
                ResnetGenerator.multiple, ResnetGenerator.minimum,
            )
            for generator, source, target in pairs
        })  # fmt: skip

    def check_size(self, height: int, width: int) -> None:
        for side in (height, width):
            if side % ResnetGenerator.multiple or side < ResnetGenerator.minimum:
                raise ValueError(
                    f"data.crop_size must be a multiple of 4 and at least 8, got {side}"
                )
            if self.judge_a.score_size(side) < 1:
                raise ValueError(
                    f"data.crop_size={side} is too small for a discriminator of "
                    f"{self.config.discriminator.layers} layers; use a larger crop or fewer layers"
                )
