"""Which crops a generator and its discriminator can be trained on."""

from typing import Protocol

from models.networks.batch_head import BatchHeadDiscriminator
from models.networks.multiscale_discriminator import MultiscaleDiscriminator
from models.networks.patch_discriminator import PatchDiscriminator
from models.networks.plain_unet import PlainUnet
from models.networks.unet_generator import UnetGenerator


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
    judge: PatchDiscriminator | MultiscaleDiscriminator | BatchHeadDiscriminator,
) -> None:  # fmt: skip
    """Raise ValueError, with what would fit, where a crop of this size cannot be learnt from."""
    unet = isinstance(generator, UnetGenerator | PlainUnet)
    otherwise = "; fewer method.generator.halvings ask for less" if unet else ""
    check_sides(height, width, generator.multiple, generator.minimum, otherwise)
    for side in (height, width):
        if judge.score_size(side) < 1:
            scales = f" and {judge.config.scales} scales" if judge.config.scales > 1 else ""
            raise ValueError(
                f"data.crop_size={side} is too small for a discriminator of "
                f"{judge.config.layers} layers{scales}; use a larger crop or fewer of them"
            )
