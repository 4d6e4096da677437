"""Dmitrii Torbunov, Yi Huang, Haiwang Yu, Jin Huang, Shinjae Yoo, Meifeng Lin, Brett Viren, Yihui Ren:
UVCGAN: UNet Vision Transformer Cycle-Consistent GAN for Unpaired Image-to-Image Translation.
WACV 2023. arXiv:2203.02557, Sec. 3.2 (after BEiT, Bao et al. 2022, arXiv:2106.08254).

What comes before `uvcgan_v2`: one generator learns to fill in patches that were taken out of the images
of both domains. It is saved under the names of both of uvcgan_v2's generators, so that

    python train.py uvcgan_v2 init_from=RUN init_partial=true ...

begins with it twice. The authors use AdamW and restart a cosine schedule; here it is Adam and the
schedule of the options.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.checks import at_least, check_sides, two_domains
from models.losses.reconstruction import l1
from models.method import Batch, Method, Turn
from models.networks.generators.modulated_unet import ModulatedUnet
from models.translator import deterministic

BLACK = -1.0  # what stands where a patch was taken out


class Inpainting(Method):
    """One generator that makes images whole, whichever domain they are of."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        name: str = "inpainting"  # Torbunov et al. 2022: pre-training for uvcgan_v2
        patch: int = 32  # side in pixels of the squares that are taken out
        hidden: float = 0.4  # share of them that is
        generator: ModulatedUnet.Config = field(default_factory=ModulatedUnet.Config)

        def __post_init__(self) -> None:
            at_least(1, self, "patch")
            if not 0 <= self.hidden <= 1:
                raise ValueError(f"method.hidden must be in [0, 1], got {self.hidden}")

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        (self.a, a_channels), (self.b, b_channels) = two_domains("inpainting", channels)
        if a_channels != b_channels:
            raise ValueError(
                f"inpainting learns from both domains with one generator, which needs equal channels "
                f"({self.a} has {a_channels}, {self.b} has {b_channels})"
            )
        self.to_b = ModulatedUnet(a_channels, a_channels, config.generator)
        self.to_a = self.to_b  # one network under the names of two

    def players(self) -> dict[str, nn.Module]:
        return {"generator": self.to_b}

    def turns(self, batch: Batch, step: int) -> Iterator[Turn]:
        yield Turn("generator", losses={
            f"filling_{name}": l1(self.to_b(self.with_holes(image)), image)
            for name, image in (("a", batch[self.a]), ("b", batch[self.b]))
        })  # fmt: skip

    def with_holes(self, image: Tensor) -> Tensor:
        """Return [B, C, H, W] with squares of `patch` pixels black, each with probability `hidden`."""
        count, _, height, width = image.shape
        patch = self.config.patch
        squares = (count, 1, -(-height // patch), -(-width // patch))
        hidden = torch.rand(squares, device=image.device) < self.config.hidden
        hidden = hidden.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)
        return image.masked_fill(hidden[:, :, :height, :width], BLACK)

    def translators(self) -> nn.ModuleDict:
        """Return how images of each domain are made whole."""
        ways = ((self.to_b, domain, domain) for domain in (self.a, self.b))
        return deterministic(self.channels, *ways)

    def check_size(self, height: int, width: int) -> None:
        check_sides(height, width, self.to_b.multiple, self.to_b.minimum)
