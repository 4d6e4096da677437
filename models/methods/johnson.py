"""Justin Johnson, Alexandre Alahi, Li Fei-Fei: Perceptual Losses for Real-Time Style Transfer and
Super-Resolution. ECCV 2016. arXiv:1603.08155.

The paper learns the style of one image; here it is that of a domain, and a domain of one image
gives the paper's method. The generator uses instance norm (Ulyanov et al. 2016, arXiv:1607.08022),
as the authors' later code does. Content and style are weighted 1 to 100000 as in PyTorch's
published example, which uses torchvision's VGG weights and means where Eq. 4 has sums.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from models.checks import check_at_least, check_sides, two_domains
from models.losses.reconstruction import l2
from models.losses.style import gram, total_variation
from models.method import Batch, Method, Update
from models.networks.generators.build import build_generator
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.vgg import Vgg, check_channels
from models.running_gram_matrices import RunningGramMatrices
from models.translator import build_translators

CONTENT = "relu3_3"
STYLE = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")


class Johnson(Method):
    """One generator, trained by VGG losses: content of the source, style of the target."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        name: str = "johnson"  # Johnson et al. 2016
        content_weight: float = 1.0  # weight of the content loss
        style_weight: float = 100000.0  # weight of the style loss
        variation_weight: float = 1.0  # weight of the total variation
        style: Literal["domain", "batch"] = "domain"  # the domain's mean, or each image's own
        generator: GeneratorConfig = field(
            default_factory=lambda: GeneratorConfig(channels=32, blocks=5)
        )
        vgg: Vgg.Config = field(default_factory=lambda: Vgg.Config(kind="vgg16"))

        def __post_init__(self) -> None:
            check_at_least(0, self, "content_weight", "style_weight", "variation_weight")

        def notes(self) -> list[str]:
            return self.vgg.notes()

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        check_channels(channels)
        self.config = config
        (self.a, _), (self.b, _) = two_domains("johnson", channels)
        self.generator_ab = build_generator(channels[self.a], channels[self.b], config.generator)
        self.vgg = Vgg(config.vgg, STYLE)
        self.grams = RunningGramMatrices(self.vgg.widths())

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {"generator": self.generator_ab}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        config = self.config
        real_a, real_b = batch[self.a], batch[self.b]
        fake_b = self.generator_ab(real_a)

        with torch.no_grad():
            content, target = self.vgg(real_a)[CONTENT], self.target_grams(real_b)
        fake = self.vgg(fake_b)
        style_loss = torch.stack([l2(gram(fake[layer]), target[layer]) for layer in STYLE]).sum()
        yield Update("generator", losses={  # Eq. 5
            "content": config.content_weight * l2(fake[CONTENT], content),  # Eq. 2
            "style": config.style_weight * style_loss,  # Eq. 3 and 4
            "variation": config.variation_weight * total_variation(fake_b),  # Sec. 3.2
        })  # fmt: skip

    def target_grams(self, real: Tensor) -> dict[str, Tensor]:
        """Return layer name -> target Gram matrices: [1, C, C] for all images, or [B, C, C]."""
        features = self.vgg(real)
        if self.config.style == "batch":
            return {layer: gram(features[layer]) for layer in STYLE}
        self.grams.update(features)
        return self.grams.means()

    def translators(self) -> nn.ModuleDict:
        return build_translators(self.channels, (self.generator_ab, self.a, self.b))

    def check_crop_size(self, height: int, width: int) -> None:
        check_sides(height, width, self.generator_ab.multiple, self.generator_ab.minimum)
        self.vgg.load()  # so that a missing file is reported before any image is read
