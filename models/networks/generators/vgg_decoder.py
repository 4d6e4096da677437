"""The decoder from VGG's relu4_1 to images (Huang & Belongie 2017, arXiv:1703.06868, Sec. 6.1)."""

from torch import Tensor, nn

from models.networks.layers.norm_act_pad import ReflectPad
from models.networks.vgg import Vgg, channels_of, convolution_positions

INPUT_LAYER = "conv4_1"


class VggDecoder(nn.Module):
    """VGG's convolutions in reverse order, with upsampling for pooling and reflection padding.

    It has no norms: batch norm would centre a batch around one style, and instance norm would
    normalise every image to a single style (Sec. 7.1).
    """

    def __init__(self, config: Vgg.Config, out_channels: int) -> None:
        super().__init__()
        names = [name for name, _ in convolution_positions(config.kind)]
        names = names[: names.index(INPUT_LAYER) + 1]
        inputs = [out_channels, *(channels_of(name, config.channels) for name in names)]
        layers: list[nn.Module] = []
        for name, width in reversed(list(zip(names, inputs, strict=False))):
            layers += [
                ReflectPad(1),
                nn.Conv2d(channels_of(name, config.channels), width, 3),
                nn.ReLU(),
            ]
            if name.endswith("_1"):  # VGG pools before it
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        self.layers = nn.Sequential(*layers[:-2])  # the image gets no ReLU and no upsampling

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, C, h, w] to images [B, out_channels, 8 h, 8 w], unbounded but near [-1, 1]."""
        return self.layers(features)
