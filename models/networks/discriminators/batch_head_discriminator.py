"""The discriminator of UVCGAN v2, whose head computes statistics over past images as well.

Torbunov et al. 2023 (arXiv:2303.16280), Sec. 3.2.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.image_pool import FeatureQueue
from models.networks.discriminators.patch_discriminator import DiscriminatorNorm, PatchDiscriminator

HeadKind = Literal["batch_norm", "batch_stdev"]


class BatchHeadDiscriminator(nn.Module):
    """A PatchGAN's body, and a head with batch statistics over current and past feature maps.

    Batch statistics let a discriminator detect mode collapse, but a batch is a single image here.
    Queues of the last `queue` feature maps of real images, and of as many fakes, extend the batch.
    Inside, images are scaled to [0, 1], as in the authors' code.
    """

    @dataclass(frozen=True)
    class Config(PatchDiscriminator.Config):
        norm: DiscriminatorNorm = "batch"  # norm of the body; batch is the authors'
        spectral: bool = True  # spectral norm in the body: a layer's largest singular value is 1
        head: HeadKind = "batch_norm"  # batch statistics: batch norm, or minibatch stddev
        queue: int = 3  # past real and past fake feature maps that extend the batch

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.kind != "patch" or self.scales != 1:
                raise ValueError(
                    "method.discriminator: the batch head supports only kind=patch with scales=1; "
                    f"got kind={self.kind}, scales={self.scales}"
                )
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

        `real` is 1 for real images, 0 for fakes, and in between for blends of both, whose past
        features are blended in the same ratio. `remember` appends the features to their queue
        afterwards.
        """
        features = self.patches((image + 1) / 2)
        past = self.past_features(features, real)
        batch = features if past is None else torch.cat([features, past.to(features.dtype)])
        if remember:
            (self.past_real if real else self.past_fake).remember(features)
        return self.head(batch)[: len(features)]

    def past_features(self, features: Tensor, real: float | Tensor) -> Tensor | None:
        """Return the past features [n, C, h, w] that extend the batch, None at the start."""
        if not isinstance(real, Tensor):
            return (self.past_real if real else self.past_fake).past(features)
        past_fake, past_real = self.past_fake.past(features), self.past_real.past(features)
        if past_fake is None or past_real is None:
            return None
        return torch.lerp(past_fake, past_real, real.mean())

    def score_size(self, side: int) -> int:
        """Return the number of scores along `side` pixels; below 1 the image is too small."""
        scores = self.patches.score_size(side) + 1
        return scores if scores > 1 else 0  # a norm needs more than one position


class MinibatchStd(nn.Module):
    """Append a channel with the mean standard deviation over the batch.

    Karras et al. 2018 (arXiv:1710.10196), Sec. 3.
    """

    EPSILON = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C + 1, H, W]."""
        std = (x.var(dim=0, correction=0) + self.EPSILON).sqrt().mean()
        return torch.cat([x, std.to(x.dtype).expand_as(x[:, :1])], dim=1)


def _head(width: int, kind: HeadKind) -> nn.Sequential:
    """Return layers from `width` channels to scores, with torch's default initial weights."""
    statistics = nn.BatchNorm2d(width) if kind == "batch_norm" else MinibatchStd()
    in_channels = width if kind == "batch_norm" else width + 1
    return nn.Sequential(
        statistics,
        nn.Conv2d(in_channels, width, 3, padding=1), nn.LeakyReLU(0.01),
        nn.Conv2d(width, 1, 3, padding=1),
    )  # fmt: skip
