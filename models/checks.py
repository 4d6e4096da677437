"""What methods ask of their options and domains, in the same words."""

from collections.abc import Mapping


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
