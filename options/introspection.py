"""List the options of a dataclass: dotted names with types, defaults and explanations."""

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple


class Field(NamedTuple):
    """One option: its dotted name, type, default, and the trailing comment of its source line."""

    name: str
    type: Any
    default: Any
    explanation: str


def option_fields(
    cls: type, replace: dict[str, type] | None = None, prefix: str = ""
) -> Iterator[Field]:
    """Yield the options of a dataclass in order, groups last.

    `replace` maps the dotted name of a group to the class to use instead of the declared one.
    """
    groups = []
    for entry in dataclasses.fields(cls):
        name = prefix + entry.name
        kind = (replace or {}).get(name, entry.type)
        if dataclasses.is_dataclass(kind):
            groups.append((kind, name))
            continue
        default = entry.default
        if entry.default_factory is not dataclasses.MISSING:
            default = entry.default_factory()
        yield Field(name, entry.type, default, help_texts(cls).get(entry.name, ""))
    for kind, name in groups:
        yield from option_fields(typing.cast(type, kind), replace, f"{name}.")


@functools.cache
def help_texts(cls: type) -> dict[str, str]:
    """Return field name -> the trailing comment of its source line, inherited fields included."""
    texts: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        if dataclasses.is_dataclass(parent):
            for line in inspect.getsource(parent).splitlines():
                match = re.match(r"\s*(\w+): .*?\s# (.+)$", line)
                if match:
                    texts[match[1]] = match[2]
    return texts


def type_name(kind: Any) -> str:
    """Return a type in the help page's words: lsgan|hinge, number, whole number, true|false."""
    if typing.get_origin(kind) is Literal:
        return "|".join(map(str, typing.get_args(kind)))
    plain = {int: "whole number", float: "number", str: "text", bool: "true|false"}
    if kind in plain:
        return plain[kind]
    origin = typing.get_origin(kind)
    if origin is list:
        return f"[{type_name(typing.get_args(kind)[0])}, ...]"
    if origin is dict:
        value = typing.get_args(kind)[1]
        return "NAME=folder" if value is str else f"NAME={type_name(value)}"
    return type_name(next(part for part in typing.get_args(kind) if part is not type(None)))
