"""Leon A. Gatys, Alexander S. Ecker, Matthias Bethge: A Neural Algorithm of Artistic Style. 2015.
arXiv:1508.06576 (CVPR 2016 as Image Style Transfer Using Convolutional Neural Networks).

No network learns. Training looks at the target's images and keeps their mean Gram matrices, of one
image the paper's; translating a picture optimises its pixels, which takes minutes on a CPU. Grams are
divided by their size and content is a mean, so that the weights hold for pictures of any size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.checks import at_least, check_sides, two_domains
from models.losses.reconstruction import l2
from models.losses.style import gram, gram_energy, total_variation
from models.method import Batch, Method, Update
from models.networks.vgg import Vgg, check_channels
from models.running_gram_matrices import RunningGramMatrices
from models.translator import Translator

CONTENT = "conv4_2"
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
MINIMUM = 16  # pixels: of less, the fourth pooling leaves nothing


class Gatys(Method):
    """Statistics of the target's textures, to which each picture is optimised by itself."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        name: str = "gatys"  # Gatys et al. 2015
        content_weight: float = 1.0  # alpha of Eq. 7: features stay what they were
        style_weight: float = 100.0  # beta of Eq. 7: their correlations become the target's
        variation_weight: float = 0.0  # of differences between neighbouring pixels; not the paper's
        steps: int = 200  # of L-BFGS for each picture
        vgg: Vgg.Config = field(default_factory=lambda: Vgg.Config(pooling="average"))

        def __post_init__(self) -> None:
            at_least(0, self, "content_weight", "style_weight", "variation_weight")
            at_least(1, self, "steps")

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
        yield Update(losses=losses)  # how far these images are from the mean so far; nobody moves

    def prepare_cuda_graph_inputs(self, count: int, step: int) -> None:
        """Draw nothing: a step has no randomness."""

    def translators(self) -> nn.ModuleDict:
        return nn.ModuleDict({
            f"{self.a}_to_{self.b}": OptimisingTranslator(
                self.config, self.vgg, self.grams, self.a, self.b
            )
        })  # fmt: skip

    def check_crop_size(self, height: int, width: int) -> None:
        check_sides(height, width, 1, MINIMUM)


def style_loss(features: Mapping[str, Tensor], grams: Mapping[str, Tensor]) -> Tensor:
    """Return L_style (Eq. 5), every layer weighted alike."""
    energies = [gram_energy(gram(features[layer]), grams[layer]) for layer in STYLE]
    return torch.stack(energies).mean()  # w_l = 1/5


class OptimisingTranslator(Translator):
    """Optimise a picture, from itself on, towards its own content and the domain's mean style."""

    def __init__(
        self, config: Gatys.Config, vgg: Vgg, grams: RunningGramMatrices, source: str, target: str
    ) -> None:
        super().__init__(source, target, 3, 3, minimum=MINIMUM)
        self.config = config
        self.vgg = vgg
        self.grams = grams

    def translate(self, image: Tensor, style: Tensor | None) -> Tensor:
        # One by one: a line search over a batch would make pictures depend on their neighbours.
        pictures = [self.optimised(one[None]) for one in image.float().clone()]
        return torch.cat(pictures).to(image.dtype)

    def optimised(self, image: Tensor) -> Tensor:
        """Return the picture [1, 3, H, W] float32 that minimises Eq. 7, as far as `steps` lead."""
        # Callers forbid gradients and may allow half precision; here gradients are the work.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(image.device.type, enabled=False),
        ):
            image, grams = image.clone(), self.grams.means()
            content = self.vgg(image)[CONTENT].detach()
            picture = image.clone().requires_grad_()
            solver = torch.optim.LBFGS(
                [picture], max_iter=self.config.steps, tolerance_grad=0.0, tolerance_change=0.0,
                line_search_fn="strong_wolfe",
            )  # fmt: skip

            def loss() -> Tensor:
                solver.zero_grad()
                total = self.energy(picture, content, grams)
                total.backward()
                return total

            solver.step(loss)
            return picture.detach().clamp(-1, 1)

    def energy(self, picture: Tensor, content: Tensor, grams: Mapping[str, Tensor]) -> Tensor:
        """Return what is minimised (Eq. 7)."""
        picture = picture.clamp(-1, 1)  # what is judged is what will be shown
        config, features = self.config, self.vgg(picture)
        return (
            config.content_weight * l2(features[CONTENT], content)  # Eq. 1
            + config.style_weight * style_loss(features, grams)  # Eq. 5
            + config.variation_weight * total_variation(picture)
        )
