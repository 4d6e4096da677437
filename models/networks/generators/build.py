"""Build the generator that method.generator.kind selects."""

from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.norm_free_unet import NormFreeUnet
from models.networks.generators.resnet_generator import ResnetGenerator
from models.networks.generators.unet_generator import UnetGenerator

Generator = ResnetGenerator | UnetGenerator | NormFreeUnet


def build_generator(in_channels: int, out_channels: int, config: GeneratorConfig) -> Generator:
    """Return a new generator of `config.kind` with initial weights."""
    kinds = {"resnet": ResnetGenerator, "unet": UnetGenerator, "norm_free_unet": NormFreeUnet}
    return kinds[config.kind](in_channels, out_channels, config)
