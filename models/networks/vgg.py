"""The features of VGG (Simonyan & Zisserman 2015, arXiv:1409.1556), frozen: pictures are compared in them."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.hub
import torch.nn.functional as F
from torch import Tensor, nn

from common.user_paths import parse_path

Kind = Literal["vgg19", "vgg16"]

CONVOLUTIONS: dict[Kind, tuple[int, ...]] = {"vgg19": (2, 2, 4, 4, 4), "vgg16": (2, 2, 3, 3, 3)}
# torchvision's files; a name ends with what the file's sha256 begins with.
FILES: dict[Kind, str] = {"vgg19": "vgg19-dcbb9e9d.pth", "vgg16": "vgg16-397923af.pth"}
SOURCE = "https://download.pytorch.org/models/"
PUBLISHED = 64  # channels of the first layer
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's pictures in [0, 1], which VGG learnt to expect
DEVIATION = (0.229, 0.224, 0.225)
SEED = 0  # of random weights: they are the same everywhere


class Vgg(nn.Module):
    """Map pictures to the features of named layers, such as relu4_1 or conv4_2.

    Gradients reach the picture; the weights take none and stand in no checkpoint. They are read when
    they are first needed (or by `load`), so that a method whose result does without them can be
    opened where they are not.
    """

    mean: Tensor
    deviation: Tensor

    @dataclass(frozen=True)
    class Config:
        kind: Kind = "vgg19"  # how deep it is
        weights: str = "cache"  # torchvision's: in torch's cache, or the FILE named here; or random
        channels: int = PUBLISHED  # width of the first layer; 64, or any with random weights
        pooling: Literal["max", "average"] = "max"  # max is VGG's; average is smoother

        def __post_init__(self) -> None:
            if self.channels < 1:
                raise ValueError(f"method.vgg.channels must be at least 1, got {self.channels}")
            if self.channels != PUBLISHED and self.weights != "random":
                raise ValueError(
                    f"method.vgg.channels={self.channels}: published weights have {PUBLISHED}; "
                    "method.vgg.weights=random has any"
                )

        def notes(self) -> list[str]:
            """Return what a reader of any result must know of these features."""
            if self.weights != "random":
                return []
            return [
                "method.vgg.weights=random: pictures are compared by random features, which know "
                "textures and no objects; published results need VGG's weights"
            ]

    def __init__(self, config: Config, layers: Sequence[str]) -> None:
        """Take the names of the wanted layers; what lies behind the last of them is not built."""
        super().__init__()
        self.config = config
        self.layers = list(layers)
        self.loaded = False
        last = max(layer.removeprefix("relu").removeprefix("conv") for layer in layers)
        self.convolutions = nn.ModuleDict()
        in_channels = 3
        for name, _ in positions(config.kind):
            out_channels = width_of(name, config.channels)
            self.convolutions[name] = FrozenConv3x3(in_channels, out_channels)
            in_channels = out_channels
            if name.endswith(last):
                break
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Map [B, 3, H, W] in [-1, 1] to layer -> [B, C, h, w], h and w halved before each new block."""
        if not self.loaded:
            self.load()
        x = ((image + 1) / 2 - self.mean) / self.deviation
        found = {}
        for name, convolution in self.convolutions.items():
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2) if self.config.pooling == "max" else F.avg_pool2d(x, 2)
            found[name] = convolution(x)
            x = found[name.replace("conv", "relu")] = F.relu(found[name])
        return {layer: found[layer] for layer in self.layers}

    def widths(self) -> dict[str, int]:
        """Return the channels of each wanted layer."""
        return {layer: width_of(layer, self.config.channels) for layer in self.layers}

    def load(self) -> None:
        """Read the weights, or draw random ones; ValueError, in one line, says why that cannot be."""
        if self.config.weights == "random":
            generator = torch.Generator().manual_seed(SEED)
            for name, convolution in self.convolutions.items():
                assert isinstance(convolution, FrozenConv3x3)
                convolution.draw(generator, pictures=name == "conv1_1")
        else:
            file = weights_file(self.config)
            content = read(file)
            for name, position in positions(self.config.kind):
                if name in self.convolutions:
                    convolution = self.convolutions[name]
                    assert isinstance(convolution, FrozenConv3x3)
                    convolution.take(content, f"features.{position}", file)
        self.loaded = True


class FrozenConv3x3(nn.Module):
    """A 3x3 convolution whose weights nobody learns and no checkpoint holds."""

    weight: Tensor
    bias: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        shape = (out_channels, in_channels, 3, 3)
        self.register_buffer("weight", torch.zeros(shape), persistent=False)
        self.register_buffer("bias", torch.zeros(out_channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=1)

    def draw(self, generator: torch.Generator, pictures: bool) -> None:
        """Draw weights that keep the size of what comes in (He et al. 2015, arXiv:1502.01852).

        Behind a ReLU each filter adds up to zero: else what all channels have in common, their
        positive mean, would be nearly all that deep features say.
        """
        weight = torch.randn(self.weight.shape, generator=generator)
        variance = 1.0  # of what comes in
        if not pictures:
            weight = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
            variance = (1 - 1 / math.pi) / 2  # of max(0, N(0, 1))
        self.weight.copy_(weight / math.sqrt(variance * weight[0].numel()))

    def take(self, content: Mapping[str, Tensor], name: str, file: Path) -> None:
        """Copy the layer `name` of a file's content; ValueError where it is not such a layer."""
        for part, own in (("weight", self.weight), ("bias", self.bias)):
            found = content.get(f"{name}.{part}")
            if not isinstance(found, Tensor) or found.shape != own.shape:
                raise ValueError(f"method.vgg.weights: {file} has no {name}.{part} of its VGG")
            own.copy_(found)


def positions(kind: Kind) -> Iterator[tuple[str, int]]:
    """Yield the name of every convolution and its place in torchvision's `features`."""
    position = 0
    for block, count in enumerate(CONVOLUTIONS[kind], start=1):
        for number in range(1, count + 1):
            yield f"conv{block}_{number}", position
            position += 2  # the convolution and its ReLU
        position += 1  # the pooling


def width_of(layer: str, channels: int) -> int:
    """Return a layer's channels: twice as many in each block, up to 8 times the first layer's."""
    return channels * min(2 ** (int(layer[4]) - 1), 8)


def check_channels(channels: Mapping[str, int]) -> None:
    """Raise ValueError where images of a domain are none that VGG could look at."""
    for domain, count in channels.items():
        if count != 3:
            raise ValueError(
                f"VGG looks at RGB images and {domain} has {count} channels; set data.channels=3"
            )


def weights_file(config: Vgg.Config) -> Path:
    """Return the file that holds the weights; ValueError says where to get it."""
    name = FILES[config.kind]
    cache = parse_path(torch.hub.get_dir()) / "checkpoints"
    file = (
        cache / name
        if config.weights == "cache"
        else parse_path(config.weights, "method.vgg.weights")
    )
    if not file.is_file():
        raise ValueError(
            f"method.vgg.weights={config.weights}: {file} is not there; fetch {SOURCE}{name}, into "
            f"{cache} or to be named by method.vgg.weights=FILE"
        )
    return file


def read(file: Path) -> Mapping[str, Tensor]:
    """Return the tensors in a file whose name ends with what its sha256 begins with, or ValueError."""
    try:
        with open(file, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        ending = file.stem.rpartition("-")[2]
        if len(ending) < 8 or not digest.startswith(ending):
            raise ValueError(
                f"method.vgg.weights: {file} is damaged or renamed: its sha256 begins with "
                f"{digest[:8]}, which its name must end with"
            )
        content = torch.load(file, map_location="cpu", weights_only=True)
    except ValueError:
        raise
    except Exception as error:  # of many kinds, as damage has it
        raise ValueError(
            f"method.vgg.weights: {file} cannot be read ({type(error).__name__})"
        ) from None
    if not isinstance(content, Mapping):
        raise ValueError(f"method.vgg.weights: {file} holds no weights")
    return content
