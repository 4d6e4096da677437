"""What methods ask of their options and domains, in the same words."""

from collections.abc import Mapping
from typing import Protocol

from models.networks.discriminators.batch_head_discriminator import BatchHeadDiscriminator
from models.networks.discriminators.multiscale_discriminator import MultiscaleDiscriminator
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.norm_free_unet import NormFreeUnet
from models.networks.generators.unet_generator import UnetGenerator


def at_least(least: int, config: object, *options: str) -> None:
    """Raise ValueError for the first of a method's `options` that is below `least`."""
    for option in options:
        value = getattr(config, option)
        if value < least:
            bound = "0 or more" if least == 0 else f"at least {least}"
            raise ValueError(f"method.{option} must be {bound}, got {value}")


def not_both_zero(config: object, one: str, other: str) -> None:
    """Raise ValueError where two weights are 0 and something would have nothing to learn from."""
    if not getattr(config, one) and not getattr(config, other):
        raise ValueError(f"method.{one} and method.{other} cannot both be 0")


def two_domains(
    method: str, channels: Mapping[str, int]
) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return name and channels of both domains; ValueError where there are not two."""
    if len(channels) != 2:
        raise ValueError(f"{method} has 2 domains, data.domains names {len(channels)}")
    first, second = channels.items()
    return first, second


class Sized(Protocol):
    """What says which sides of an image fit."""

    multiple: int
    minimum: int


def check_sides(height: int, width: int, multiple: int, minimum: int, otherwise: str = "") -> None:
    """Raise ValueError, with what would fit, where a network cannot take a crop of this size."""
    for side in (height, width):
        if side % multiple or side < minimum:
            among = f"a multiple of {multiple} and " if multiple > 1 else ""
            raise ValueError(
                f"data.crop_size must be {among}at least {minimum}, got {side}{otherwise}"
            )


def check_crop(
    height: int, width: int, generator: Sized,
    discriminator: PatchDiscriminator | MultiscaleDiscriminator | BatchHeadDiscriminator,
) -> None:  # fmt: skip
    """Raise ValueError, with what would fit, where a crop of this size cannot be learnt from."""
    unet = isinstance(generator, UnetGenerator | NormFreeUnet)
    otherwise = "; fewer method.generator.num_downs ask for less" if unet else ""
    check_sides(height, width, generator.multiple, generator.minimum, otherwise)
    for side in (height, width):
        if discriminator.score_size(side) < 1:
            scales = (
                f" and {discriminator.config.scales} scales"
                if discriminator.config.scales > 1
                else ""
            )
            raise ValueError(
                f"data.crop_size={side} is too small for a discriminator of "
                f"{discriminator.config.layers} layers{scales}; use a larger crop or fewer of them"
            )
