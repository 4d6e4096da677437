"""Compute features of a frozen VGG, in which images are compared.

Simonyan & Zisserman 2015 (arXiv:1409.1556).
"""

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

VggKind = Literal["vgg19", "vgg16"]

CONVOLUTIONS: dict[VggKind, tuple[int, ...]] = {"vgg19": (2, 2, 4, 4, 4), "vgg16": (2, 2, 3, 3, 3)}
# torchvision's files; each name ends with the first digits of the file's sha256.
WEIGHT_FILES: dict[VggKind, str] = {"vgg19": "vgg19-dcbb9e9d.pth", "vgg16": "vgg16-397923af.pth"}
DOWNLOAD_URL = "https://download.pytorch.org/models/"
PUBLISHED_CHANNELS = 64  # width of the first layer
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's images in [0, 1], on which VGG was trained
STD = (0.229, 0.224, 0.225)
SEED = 0  # of random weights, which are thus the same in every process


class Vgg(nn.Module):
    """Map images to the features of named layers, such as relu4_1 or conv4_2.

    Gradients reach the image. The weights are not trained and not part of the state dict: they are
    loaded at the first forward (or by `load`), so that a method whose translators do not need VGG
    can be opened on a machine without the file.
    """

    mean: Tensor
    deviation: Tensor

    @dataclass(frozen=True)
    class Config:
        kind: VggKind = "vgg19"  # depth of the network
        weights: str = "cache"  # cache: torchvision's in torch's cache; FILE; or random
        channels: int = PUBLISHED_CHANNELS  # width of the first layer; not 64: random weights only
        pooling: Literal["max", "average"] = "max"  # max is VGG's; average is smoother

        def __post_init__(self) -> None:
            if self.channels < 1:
                raise ValueError(f"method.vgg.channels must be at least 1, got {self.channels}")
            if self.channels != PUBLISHED_CHANNELS and self.weights != "random":
                raise ValueError(
                    f"method.vgg.channels={self.channels}: published weights need "
                    f"{PUBLISHED_CHANNELS}; set that, or method.vgg.weights=random"
                )

        def notes(self) -> list[str]:
            """Return warnings about these features that must accompany every result."""
            if self.weights != "random":
                return []
            return [
                "method.vgg.weights=random: images are compared by random features, which respond "
                "to textures but not to objects; published results need VGG's weights"
            ]

    def __init__(self, config: Config, layers: Sequence[str]) -> None:
        """Build the network up to the last of `layers`, the names of the wanted features."""
        super().__init__()
        self.config = config
        self.layers = list(layers)
        self.loaded = False
        last = max(layer.removeprefix("relu").removeprefix("conv") for layer in layers)
        self.convolutions = nn.ModuleDict()
        in_channels = 3
        for name, _ in convolution_positions(config.kind):
            out_channels = channels_of(name, config.channels)
            self.convolutions[name] = FrozenConv3x3(in_channels, out_channels)
            in_channels = out_channels
            if name.endswith(last):
                break
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Map [B, 3, H, W] in [-1, 1] to layer -> [B, C, h, w]; each new block halves h and w."""
        if not self.loaded:
            self.load()
        x = ((image + 1) / 2 - self.mean) / self.deviation
        features = {}
        for name, convolution in self.convolutions.items():
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2) if self.config.pooling == "max" else F.avg_pool2d(x, 2)
            features[name] = convolution(x)
            x = features[name.replace("conv", "relu")] = F.relu(features[name])
        return {layer: features[layer] for layer in self.layers}

    def widths(self) -> dict[str, int]:
        """Return layer name -> channels of the wanted layers."""
        return {layer: channels_of(layer, self.config.channels) for layer in self.layers}

    def load(self) -> None:
        """Load the weights from their file, or draw random ones.

        ValueError names method.vgg.weights where the file is missing, damaged or not of this VGG.
        """
        if self.config.weights == "random":
            generator = torch.Generator().manual_seed(SEED)
            for name, convolution in self.convolutions.items():
                assert isinstance(convolution, FrozenConv3x3)
                convolution.draw_weights(generator, first=name == "conv1_1")
        else:
            file = weights_file(self.config)
            state = load_state_dict(file)
            for name, position in convolution_positions(self.config.kind):
                if name in self.convolutions:
                    convolution = self.convolutions[name]
                    assert isinstance(convolution, FrozenConv3x3)
                    convolution.copy_from(state, f"features.{position}", file)
        self.loaded = True


class FrozenConv3x3(nn.Module):
    """A 3x3 convolution whose weights are neither trained nor part of the state dict."""

    weight: Tensor
    bias: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        shape = (out_channels, in_channels, 3, 3)
        self.register_buffer("weight", torch.zeros(shape), persistent=False)
        self.register_buffer("bias", torch.zeros(out_channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=1)

    def draw_weights(self, generator: torch.Generator, first: bool) -> None:
        """Draw weights that preserve the input's variance (He et al. 2015, arXiv:1502.01852).

        Except in the first layer, each filter sums to zero: otherwise the positive mean that all
        channels have after a ReLU would dominate deep features.
        """
        weight = torch.randn(self.weight.shape, generator=generator)
        variance = 1.0  # of the input
        if not first:
            weight = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
            variance = (1 - 1 / math.pi) / 2  # of max(0, N(0, 1))
        self.weight.copy_(weight / math.sqrt(variance * weight[0].numel()))

    def copy_from(self, state: Mapping[str, Tensor], name: str, file: Path) -> None:
        """Copy the layer `name` of a state dict; ValueError if it is missing or misshapen."""
        for part, own in (("weight", self.weight), ("bias", self.bias)):
            tensor = state.get(f"{name}.{part}")
            if not isinstance(tensor, Tensor) or tensor.shape != own.shape:
                shape = "x".join(map(str, own.shape))
                raise ValueError(
                    f"method.vgg.weights: {file} has no {name}.{part} of shape {shape}; "
                    "set it to a file of weights for method.vgg.kind"
                )
            own.copy_(tensor)


def convolution_positions(kind: VggKind) -> Iterator[tuple[str, int]]:
    """Yield the name of every convolution and its index in torchvision's `features`."""
    position = 0
    for block, count in enumerate(CONVOLUTIONS[kind], start=1):
        for number in range(1, count + 1):
            yield f"conv{block}_{number}", position
            position += 2  # the convolution and its ReLU
        position += 1  # the pooling


def channels_of(layer: str, channels: int) -> int:
    """Return a layer's channels: doubled in each block, up to 8 times the first layer's."""
    return channels * min(2 ** (int(layer[4]) - 1), 8)


def check_channels(channels: Mapping[str, int]) -> None:
    """Raise ValueError unless the images of every domain have VGG's 3 channels."""
    for domain, count in channels.items():
        if count != 3:
            raise ValueError(
                f"VGG needs RGB images, but {domain} has {count} channels; set data.channels=3"
            )


def weights_file(config: Vgg.Config) -> Path:
    """Return the file of the weights; ValueError with its download address where it is missing."""
    name = WEIGHT_FILES[config.kind]
    cache = parse_path(torch.hub.get_dir()) / "checkpoints"
    file = (
        cache / name
        if config.weights == "cache"
        else parse_path(config.weights, "method.vgg.weights")
    )
    if not file.is_file():
        raise ValueError(
            f"method.vgg.weights={config.weights}: {file} does not exist; download "
            f"{DOWNLOAD_URL}{name} into {cache}, or set method.vgg.weights=FILE"
        )
    return file


def load_state_dict(file: Path) -> Mapping[str, Tensor]:
    """Return the state dict in a file, checked against the sha256 digits at the end of its name.

    ValueError names method.vgg.weights and the file where it is damaged, renamed or unreadable.
    """
    try:
        with open(file, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        ending = file.stem.rpartition("-")[2]
        if len(ending) < 8 or not digest.startswith(ending):
            raise ValueError(
                f"method.vgg.weights: {file} is damaged or renamed: its name must end with "
                f"{digest[:8]}, the beginning of its sha256; download it again"
            )
        state = torch.load(file, map_location="cpu", weights_only=True)
    except ValueError:
        raise
    except Exception as error:  # a damaged file raises exceptions of many types
        raise ValueError(
            f"method.vgg.weights: {file} cannot be read ({type(error).__name__})"
        ) from None
    if not isinstance(state, Mapping):
        raise ValueError(f"method.vgg.weights: {file} does not contain a state dict")
    return state
