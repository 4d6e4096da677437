"""Options of the generators that several methods can choose from."""

from dataclasses import dataclass
from typing import Literal

from models.networks.layers.initialization import InitType
from models.networks.layers.norm_act_pad import Norm

GeneratorKind = Literal["resnet", "unet", "norm_free_unet"]


@dataclass(frozen=True)
class GeneratorConfig:
    """Options of the generators that `build_generator` builds."""

    kind: GeneratorKind = "resnet"  # resnet, unet (pix2pix), or norm_free_unet (full-size skips)
    channels: int = 64  # width of the first layer; residual blocks are 4 times as wide
    blocks: int = 9  # resnet: residual blocks; 9 from 256 pixels on, 6 for 128
    num_downs: int = 8  # unets: downsamplings; 8 for multiples of 256 pixels, 7 for 128
    attention: bool = False  # resnet: self-attention after the blocks; no strips then
    upsampling: Literal["transposed", "resize"] = "transposed"  # resize avoids checkerboards
    dropout: float = 0.0  # in the residual blocks; CycleGAN uses none
    norm: Norm = "instance"  # instance is that of CycleGAN
    antialiased: bool = False  # blur when downsampling and upsampling, as CUT does
    init_type: InitType = "normal"  # initial weights; xavier is CUT's

    def __post_init__(self) -> None:
        if self.channels < 1 or self.blocks < 0:
            raise ValueError("method.generator.channels must be at least 1 and blocks at least 0")
        if not 3 <= self.num_downs <= 10:
            raise ValueError(f"method.generator.num_downs must be 3 to 10, got {self.num_downs}")
        resnet_only = self.antialiased or self.attention or self.upsampling != "transposed"
        if self.kind != "resnet" and resnet_only:
            raise ValueError(
                "method.generator.antialiased, attention and upsampling need kind=resnet; leave "
                "them out, or set method.generator.kind=resnet"
            )
        if self.kind == "norm_free_unet" and (self.norm != "instance" or self.dropout):
            raise ValueError(
                "method.generator.norm and dropout do not apply to kind=norm_free_unet, which has "
                "neither; leave them out"
            )
        if self.kind == "norm_free_unet" and self.init_type != "kaiming":
            raise ValueError(
                "method.generator.kind=norm_free_unet has no norms, so initial weights must be "
                "scaled by each layer's width; set method.generator.init_type=kaiming"
            )
        if self.antialiased and self.upsampling != "transposed":
            raise ValueError(
                "method.generator.antialiased upsamples by its own filter; leave out "
                "method.generator.upsampling"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"method.generator.dropout must be in [0, 1), got {self.dropout}")


@dataclass(frozen=True)
class ContrastiveGeneratorConfig(GeneratorConfig):
    """Options of a generator whose encoder a contrastive loss reads, with the defaults of CUT."""

    antialiased: bool = True  # blur when downsampling and upsampling, as CUT does
    init_type: InitType = "xavier"  # initial weights; xavier is CUT's

    def __post_init__(self) -> None:
        if self.kind != "resnet":
            raise ValueError(
                f"method.generator.kind={self.kind} is not possible: the contrastive loss compares "
                "features of the resnet's encoder; leave it out, or train method.name=cyclegan"
            )
        super().__post_init__()
