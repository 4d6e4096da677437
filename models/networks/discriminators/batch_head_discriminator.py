"""The discriminator of UVCGAN v2, which compares images with past ones (Torbunov et al. 2023, Sec. 3.2)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.image_pool import FeatureQueue
from models.networks.discriminators.patch_discriminator import DiscriminatorNorm, PatchDiscriminator

HeadKind = Literal["batch_norm", "batch_stdev"]


class BatchHeadDiscriminator(nn.Module):
    """A PatchGAN's body, and a head that sees its features beside those of images judged before.

    Statistics over a batch tell a discriminator of a generator that repeats itself, but a batch is
    one image here: the last features of `queue` reals and as many fakes stand in for the others.
    Images are read in [0, 1] inside, as the authors do.
    """

    @dataclass(frozen=True)
    class Config(PatchDiscriminator.Config):
        norm: DiscriminatorNorm = "batch"  # of the body; batch is the authors'
        spectral: bool = True  # spectral norm in the body: a layer's largest singular value is 1
        head: HeadKind = "batch_norm"  # what it takes over the batch: a norm, or one deviation
        queue: int = 3  # past features of reals, and of fakes, that a batch stands beside

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.kind != "patch" or self.scales != 1:
                raise ValueError("method.discriminator with a batch head is kind=patch, scales=1")
            if self.queue < 0:
                raise ValueError(f"method.discriminator.queue must be 0 or more, got {self.queue}")

    def __init__(self, in_channels: int, config: Config) -> None:
        super().__init__()
        self.config = config
        self.patches = PatchDiscriminator(in_channels, config)
        last = self.patches.body[-1]
        assert isinstance(last, nn.Conv2d)
        self.patches.body = self.patches.body[:-1]
        self.head = _head(last.in_channels, config.head)
        self.past_real = FeatureQueue(config.queue)
        self.past_fake = FeatureQueue(config.queue)

    def forward(self, image: Tensor, real: float | Tensor = 0.0, remember: bool = False) -> Tensor:
        """Map [B, C, H, W] in [-1, 1] to unbounded scores [B, 1, h, w]; see `score_size`.

        `real` is the share of reals in the images: 1, 0 for fakes, or between where they are mixed;
        their company is mixed as they are. `remember` puts them into the queue afterwards.
        """
        features = self.patches((image + 1) / 2)
        company = self.past_features(features, real)
        judged = features if company is None else torch.cat([features, company.to(features.dtype)])
        if remember:
            (self.past_real if real else self.past_fake).remember(features)
        return self.head(judged)[: len(features)]

    def past_features(self, features: Tensor, real: float | Tensor) -> Tensor | None:
        """Return past features [n, C, h, w] that stand beside `features`, or None at the start."""
        if not isinstance(real, Tensor):
            return (self.past_real if real else self.past_fake).past(features)
        of_fakes, of_reals = self.past_fake.past(features), self.past_real.past(features)
        if of_fakes is None or of_reals is None:
            return None
        return torch.lerp(of_fakes, of_reals, real.mean())

    def score_size(self, side: int) -> int:
        """Return how many scores stand along `side` pixels; below 1 the image is too small."""
        scores = self.patches.score_size(side) + 1
        return scores if scores > 1 else 0  # a norm needs more than one place


class MinibatchStd(nn.Module):
    """Add a channel: how much images of a batch differ (Karras et al. 2018, arXiv:1710.10196, Sec. 3)."""

    EPSILON = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C + 1, H, W]."""
        deviation = (x.var(dim=0, correction=0) + self.EPSILON).sqrt().mean()
        return torch.cat([x, deviation.to(x.dtype).expand_as(x[:, :1])], dim=1)


def _head(width: int, kind: HeadKind) -> nn.Sequential:
    """Return what turns features of `width` channels into scores; torch's own first weights."""
    statistics = nn.BatchNorm2d(width) if kind == "batch_norm" else MinibatchStd()
    in_channels = width if kind == "batch_norm" else width + 1
    return nn.Sequential(
        statistics,
        nn.Conv2d(in_channels, width, 3, padding=1), nn.LeakyReLU(0.01),
        nn.Conv2d(width, 1, 3, padding=1),
    )  # fmt: skip
