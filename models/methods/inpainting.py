"""Dmitrii Torbunov, Yi Huang, Haiwang Yu, Jin Huang, Shinjae Yoo, Meifeng Lin, Brett Viren,
Yihui Ren: UVCGAN: UNet Vision Transformer Cycle-Consistent GAN for Unpaired Image-to-Image
Translation. WACV 2023. arXiv:2203.02557, Sec. 3.2 (after BEiT, Bao et al. 2022, arXiv:2106.08254).

Pre-training for `uvcgan_v2`: one generator learns to fill in patches that were masked in images of
both domains. It is saved under the names of both generators of uvcgan_v2, so that

    python train.py uvcgan_v2 init_from=RUN init_strict=false ...

initializes both with it. The authors use AdamW and restart a cosine schedule; here it is Adam and
the schedule of the options.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.checks import check_at_least, check_sides, two_domains
from models.losses.reconstruction import l1
from models.method import Batch, Method, Update
from models.networks.generators.modulated_unet import ModulatedUnet
from models.translator import build_translators

BLACK = -1.0  # the value of masked pixels


class Inpainting(Method):
    """One generator that fills in masked patches, for images of both domains."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        name: str = "inpainting"  # Torbunov et al. 2022: pre-training for uvcgan_v2
        mask_patch_size: int = 32  # side of the masked squares in pixels
        mask_ratio: float = 0.4  # probability that a square is masked
        generator: ModulatedUnet.Config = field(default_factory=ModulatedUnet.Config)

        def __post_init__(self) -> None:
            check_at_least(1, self, "mask_patch_size")
            if not 0 <= self.mask_ratio <= 1:
                raise ValueError(f"method.mask_ratio must be in [0, 1], got {self.mask_ratio}")

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        (self.a, a_channels), (self.b, b_channels) = two_domains("inpainting", channels)
        if a_channels != b_channels:
            raise ValueError(
                "data.channels: inpainting trains one generator on both domains, which needs "
                f"equal channels ({self.a} has {a_channels}, {self.b} has {b_channels})"
            )
        self.generator_ab = ModulatedUnet(a_channels, a_channels, config.generator)
        self.generator_ba = self.generator_ab  # one network under both names

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {"generator": self.generator_ab}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        yield Update("generator", losses={
            f"filling_{name}": l1(self.generator_ab(self.mask_patches(image)), image)
            for name, image in (("a", batch[self.a]), ("b", batch[self.b]))
        })  # fmt: skip

    def mask_patches(self, image: Tensor) -> Tensor:
        """Return [B, C, H, W] with random squares of `mask_patch_size` pixels set to black.

        Each square of the grid is masked with probability `mask_ratio`.
        """
        count, _, height, width = image.shape
        side = self.config.mask_patch_size
        grid = (count, 1, -(-height // side), -(-width // side))
        mask = torch.rand(grid, device=image.device) < self.config.mask_ratio
        mask = mask.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
        return image.masked_fill(mask[:, :, :height, :width], BLACK)

    def translators(self) -> nn.ModuleDict:
        """Return "a_to_a" and "b_to_b": the generator as an inpainter of each domain."""
        directions = ((self.generator_ab, domain, domain) for domain in (self.a, self.b))
        return build_translators(self.channels, *directions)

    def check_crop_size(self, height: int, width: int) -> None:
        check_sides(height, width, self.generator_ab.multiple, self.generator_ab.minimum)
