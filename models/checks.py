"""Checks that methods share: option values, the number of domains, the size of training crops."""

from collections.abc import Mapping
from typing import Protocol

from models.networks.discriminators.batch_head_discriminator import BatchHeadDiscriminator
from models.networks.discriminators.multiscale_discriminator import MultiscaleDiscriminator
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.norm_free_unet import NormFreeUnet
from models.networks.generators.unet_generator import UnetGenerator


def check_at_least(minimum: int, config: object, *options: str) -> None:
    """Raise ValueError for the first of a method's `options` that is below `minimum`."""
    for option in options:
        value = getattr(config, option)
        if value < minimum:
            bound = "0 or more" if minimum == 0 else f"at least {minimum}"
            raise ValueError(f"method.{option} must be {bound}, got {value}")


def check_not_both_zero(config: object, one: str, other: str) -> None:
    """Raise ValueError where two weights are 0, so that some network would have no loss."""
    if not getattr(config, one) and not getattr(config, other):
        raise ValueError(f"method.{one} and method.{other} cannot both be 0")


def two_domains(
    method: str, channels: Mapping[str, int]
) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return (name, channel count) of both domains; ValueError where there are not exactly two."""
    if len(channels) != 2:
        raise ValueError(f"data.domains names {len(channels)}, but {method} needs 2 domains")
    first, second = channels.items()
    return first, second


class SizeConstraint(Protocol):
    """A network that takes images whose sides are multiples of `multiple`, at least `minimum`."""

    multiple: int
    minimum: int


def check_sides(height: int, width: int, multiple: int, minimum: int, hint: str = "") -> None:
    """Raise ValueError, with the sizes that fit, where a network cannot take crops of this size."""
    for side in (height, width):
        if side % multiple or side < minimum:
            bound = f"a multiple of {multiple} and " if multiple > 1 else ""
            raise ValueError(f"data.crop_size must be {bound}at least {minimum}, got {side}{hint}")


def check_crop(
    height: int, width: int, generator: SizeConstraint,
    discriminator: PatchDiscriminator | MultiscaleDiscriminator | BatchHeadDiscriminator,
) -> None:  # fmt: skip
    """Raise ValueError where generator or discriminator cannot be trained on crops of this size."""
    unet = isinstance(generator, UnetGenerator | NormFreeUnet)
    hint = "; lower method.generator.num_downs for smaller crops" if unet else ""
    check_sides(height, width, generator.multiple, generator.minimum, hint)
    config = discriminator.config
    for side in (height, width):
        if discriminator.score_size(side) < 1:
            scales = f" and {config.scales} scales" if config.scales > 1 else ""
            raise ValueError(
                f"data.crop_size={side} is too small for a discriminator of {config.layers} layers"
                f"{scales}; use a larger crop or lower method.discriminator.layers"
            )
