"""A trained translator: images of one domain in, images of another out, any size."""

import torch.nn.functional as F
from torch import Tensor, nn


class Translator(nn.Module):
    """Translate images from `source` to `target`; the object that every use of a run shares.

    Previews, evaluation, translation and export call this and nothing below it.
    """

    style_dim = 0  # 0: deterministic, one output for one input

    def __init__(self, source: str, target: str, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.source = source
        self.target = target
        self.in_channels = in_channels
        self.out_channels = out_channels

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Map [B, in_channels, H, W] in [-1, 1] to [B, out_channels, H, W] in [-1, 1]."""
        raise NotImplementedError


class DeterministicTranslator(Translator):
    """A translator around one generator network, for pictures of any size.

    The picture is extended to what the network needs (reflection, or its edge where it is too small
    to be reflected) and the result cut back, so the output always has the size of the input. Sizes
    that already fit pass untouched: what is measured here is what was trained.
    """

    def __init__(
        self, generator: nn.Module, source: str, target: str, in_channels: int, out_channels: int,
        multiple: int, minimum: int,
    ) -> None:  # fmt: skip
        super().__init__(source, target, in_channels, out_channels)
        self.generator = generator
        self.multiple = multiple
        self.minimum = minimum

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        height, width = image.shape[-2:]
        down, right, reflected = self.padding(height, width)
        if down or right:
            mode = "reflect" if reflected else "replicate"
            image = F.pad(image, (0, right, 0, down), mode=mode)
        return self.generator(image)[..., :height, :width]

    def padding(self, height: int, width: int) -> tuple[int, int, bool]:
        """Return the rows below and columns to the right that a picture needs, and whether they reflect."""
        down = fitting(height, self.multiple, self.minimum) - height
        right = fitting(width, self.multiple, self.minimum) - width
        return down, right, down < height and right < width


def fitting(side: int, multiple: int, minimum: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `side` and `minimum`."""
    return -(-max(side, minimum) // multiple) * multiple
