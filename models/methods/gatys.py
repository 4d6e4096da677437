"""Leon A. Gatys, Alexander S. Ecker, Matthias Bethge: A Neural Algorithm of Artistic Style. 2015.
arXiv:1508.06576 (CVPR 2016 as Image Style Transfer Using Convolutional Neural Networks).

No network is trained. Training averages the Gram matrices of the target's images; with one image
that is the paper's method. Translating an image optimises its pixels, which takes minutes on a CPU.
Gram matrices are divided by their size and the content loss is a mean, so that the weights hold for
images of any size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.checks import check_at_least, check_sides, two_domains
from models.losses.reconstruction import l2
from models.losses.style import gram, gram_energy, total_variation
from models.method import Batch, Method, Update
from models.networks.vgg import Vgg, check_channels
from models.running_gram_matrices import RunningGramMatrices
from models.translator import Translator

CONTENT = "conv4_2"
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
MINIMUM = 16  # pixels: smaller images are empty after the fourth pooling


class Gatys(Method):
    """Gram matrices of the target domain, towards which each image is optimised by itself."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        name: str = "gatys"  # Gatys et al. 2015
        content_weight: float = 1.0  # weight of the content loss, alpha of Eq. 7
        style_weight: float = 100.0  # weight of the style loss, beta of Eq. 7
        variation_weight: float = 0.0  # weight of the total variation; not in the paper
        steps: int = 200  # L-BFGS iterations for each image
        vgg: Vgg.Config = field(default_factory=lambda: Vgg.Config(pooling="average"))

        def __post_init__(self) -> None:
            check_at_least(0, self, "content_weight", "style_weight", "variation_weight")
            check_at_least(1, self, "steps")

        def notes(self) -> list[str]:
            return self.vgg.notes()

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        check_channels(channels)
        self.config = config
        (self.a, _), (self.b, _) = two_domains("gatys", channels)
        self.vgg = Vgg(config.vgg, [*STYLE, CONTENT])
        self.vgg.load()  # translating needs it
        widths = self.vgg.widths()
        self.grams = RunningGramMatrices({layer: widths[layer] for layer in STYLE})

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        with torch.no_grad():
            features = self.vgg(batch[self.b])
            self.grams.update(features)
            losses = {"style": style_loss(features, self.grams.means())}
        yield Update(losses=losses)  # only logged: the distance of these images from the mean

    def prepare_cuda_graph_inputs(self, count: int, step: int) -> None:
        """Do nothing: a step has no randomness."""

    def translators(self) -> nn.ModuleDict:
        return nn.ModuleDict({
            f"{self.a}_to_{self.b}": OptimizingTranslator(
                self.config, self.vgg, self.grams, self.a, self.b
            )
        })  # fmt: skip

    def check_crop_size(self, height: int, width: int) -> None:
        check_sides(height, width, 1, MINIMUM)


def style_loss(features: Mapping[str, Tensor], grams: Mapping[str, Tensor]) -> Tensor:
    """Return L_style (Eq. 5) with equal layer weights."""
    energies = [gram_energy(gram(features[layer]), grams[layer]) for layer in STYLE]
    return torch.stack(energies).mean()  # w_l = 1/5


class OptimizingTranslator(Translator):
    """Optimise the pixels of an image for its own content and the mean style of the domain.

    The optimisation starts at the image itself.
    """

    def __init__(
        self, config: Gatys.Config, vgg: Vgg, grams: RunningGramMatrices, source: str, target: str
    ) -> None:
        super().__init__(source, target, 3, 3, minimum=MINIMUM)
        self.config = config
        self.vgg = vgg
        self.grams = grams

    def translate(self, image: Tensor, style: Tensor | None) -> Tensor:
        # One by one: a joint line search would make each result depend on the rest of the batch.
        results = [self.optimize(single[None]) for single in image.float().clone()]
        return torch.cat(results).to(image.dtype)

    def optimize(self, image: Tensor) -> Tensor:
        """Return the image [1, 3, H, W] float32 after `steps` iterations that minimise Eq. 7."""
        # Callers disable gradients and may enable half precision; this needs gradients in float32.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(image.device.type, enabled=False),
        ):
            image, grams = image.clone(), self.grams.means()
            content = self.vgg(image)[CONTENT].detach()
            pixels = image.clone().requires_grad_()
            optimizer = torch.optim.LBFGS(
                [pixels], max_iter=self.config.steps, tolerance_grad=0.0, tolerance_change=0.0,
                line_search_fn="strong_wolfe",
            )  # fmt: skip

            def closure() -> Tensor:
                optimizer.zero_grad()
                total = self.total_loss(pixels, content, grams)
                total.backward()
                return total

            optimizer.step(closure)
            return pixels.detach().clamp(-1, 1)

    def total_loss(self, pixels: Tensor, content: Tensor, grams: Mapping[str, Tensor]) -> Tensor:
        """Return L_total (Eq. 7)."""
        image = pixels.clamp(-1, 1)  # as in the result
        config, features = self.config, self.vgg(image)
        return (
            config.content_weight * l2(features[CONTENT], content)  # Eq. 1
            + config.style_weight * style_loss(features, grams)  # Eq. 5
            + config.variation_weight * total_variation(image)
        )
