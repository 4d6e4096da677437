"""The generators that a method can be told to use."""

from models.networks.resnet_generator import ResnetGenerator
from models.networks.unet_generator import UnetGenerator

Generator = ResnetGenerator | UnetGenerator


def build_generator(
    in_channels: int, out_channels: int, config: ResnetGenerator.Config
) -> Generator:
    """Return the generator of `config.kind`, with weights as they begin."""
    if config.kind == "unet":
        return UnetGenerator(in_channels, out_channels, config)
    return ResnetGenerator(in_channels, out_channels, config)
