"""The methods, one file each. The file's name is the method's name; nothing is registered."""

import importlib
import inspect
import pkgutil

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
