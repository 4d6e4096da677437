"""Finds methods by name: each is a file of this package, and the file's name is its name."""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping

from models.method import Method


def names() -> list[str]:
    """Return the names of all methods, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> type[Method]:
    """Return the Method class in the file `name`; KeyError if that file does not exist."""
    if name not in names():
        raise KeyError(name)
    module = importlib.import_module(f"{__name__}.{name}")
    classes = (value for value in vars(module).values() if inspect.isclass(value))
    (method,) = (
        cls for cls in classes if issubclass(cls, Method) and cls.__module__ == module.__name__
    )
    return method


def build(config: Method.Config, channels: Mapping[str, int]) -> Method:
    """Return the method `config.name` for the domains `channels` (name -> channel count).

    ValueError, in one line that names the option, where options and domains do not fit together.
    """
    return find(config.name)(config, channels)
