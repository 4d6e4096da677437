"""The way back from VGG's relu4_1 to a picture (Huang & Belongie 2017, arXiv:1703.06868, Sec. 6.1)."""

from torch import Tensor, nn

from models.networks.layers.norm_act_pad import ReflectPad
from models.networks.vgg import Vgg, positions, width_of

LAST = "conv4_1"


class VggDecoder(nn.Module):
    """VGG's convolutions in reverse, an upsampling for each pooling, reflection for zeros, no norm.

    A norm would give every picture of a batch one style, or every picture its own (Sec. 7.1).
    """

    def __init__(self, config: Vgg.Config, out_channels: int) -> None:
        super().__init__()
        names = [name for name, _ in positions(config.kind)]
        names = names[: names.index(LAST) + 1]
        inputs = [out_channels, *(width_of(name, config.channels) for name in names)]
        layers: list[nn.Module] = []
        for name, width in reversed(list(zip(names, inputs, strict=False))):
            layers += [
                ReflectPad(1),
                nn.Conv2d(width_of(name, config.channels), width, 3),
                nn.ReLU(),
            ]
            if name.endswith("_1"):  # before it VGG pools
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        self.layers = nn.Sequential(*layers[:-2])  # a picture is neither cut at 0 nor enlarged

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, C, h, w] to images [B, out_channels, 8 h, 8 w], about [-1, 1] and not limited to it."""
        return self.layers(features)
