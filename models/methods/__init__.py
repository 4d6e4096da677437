"""The methods, one file each. The file's name is the method's name; nothing is registered."""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping

from models.method import Method


def names() -> list[str]:
    """Return the names of all methods, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> type[Method]:
    """Return the Method class in the file `name`; KeyError where there is no such file."""
    if name not in names():
        raise KeyError(name)
    module = importlib.import_module(f"{__name__}.{name}")
    (found,) = (
        value for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Method) and value.__module__ == module.__name__
    )  # fmt: skip
    return found


def build(config: Method.Config, channels: Mapping[str, int]) -> Method:
    """Return the method that `config` names, for the domains `channels` (name -> channel count).

    ValueError, in one line that names the option, where they do not fit together.
    """
    return find(config.name)(config, channels)
