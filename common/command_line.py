"""Parse a command line of paths and key=value words into a flat dataclass.

train.py, test.py, translate.py and export.py have nested options; options/load.py parses those by
the same rules.
"""

import dataclasses
import os
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from common.errors import UserError
from common.suggest import did_you_mean

Options = TypeVar("Options")
HELP = frozenset(["-h", "--help"])


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a command without options."""


def split_words(
    arguments: Sequence[str], switches: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Split a command line into names or paths, and settings of options.

    A setting contains = or begins with a dash. A word is a path if it is -, an existing file, or
    has a / before its =, such as ./a=b.png. `switches` are words with a dash that count as names.
    """

    def is_setting(word: str) -> bool:
        if word in ("-", *switches):
            return False
        name, equals, _ = word.partition("=")
        return word.startswith("-") or bool(equals and "/" not in name and not os.path.exists(word))

    return (
        [word for word in arguments if not is_setting(word)],
        [word for word in arguments if is_setting(word)],
    )


def parse_words(
    arguments: Sequence[str], schema: type[Options], usage: str
) -> tuple[list[str], Options] | None:
    """Return the paths of a command line and its options; None after --help, which prints `usage`.

    `schema` is a dataclass with defaults whose fields are str, int, float, bool or dict[str, str].
    A dict takes NAME.KEY=VALUE; the field of an option with a dot has a double underscore instead.
    UserError (with `option`): an unknown option, an empty value, or a value of another type.
    """
    if HELP & {*arguments}:
        print(usage, end="" if usage.endswith("\n") else "\n")
        return None
    paths, settings = split_words(arguments)
    types = {name.replace("__", "."): kind for name, kind in typing.get_type_hints(schema).items()}
    values: dict[str, Any] = {}
    for word in settings:
        name, equals, text = word.partition("=")
        name = name.lstrip("-")
        group, _, key = name.rpartition(".")
        if equals and name in types and not _is_dict(types[name]):
            values[name] = _converted(name, text, types[name])
        elif equals and group in types and _is_dict(types[group]) and key:
            if not text:
                raise UserError(f"{name}= is empty; give a value", option=name)
            values.setdefault(group, {})[key] = text
        else:
            known = [f"{n}.NAME" if _is_dict(kind) else n for n, kind in types.items()]
            hint = did_you_mean(name, types) or (
                f"; the options are {', '.join(known)}"
                if known
                else "; --help explains the command"
            )
            raise UserError(f"unknown option '{name if equals else word}'{hint}", option=name)
    fields = {field.name for field in dataclasses.fields(typing.cast(Any, schema))}
    chosen: Mapping[str, Any] = {name.replace(".", "__"): value for name, value in values.items()}
    assert chosen.keys() <= fields
    return paths, schema(**chosen)


def _is_dict(kind: Any) -> bool:
    return typing.get_origin(kind) is dict


def _converted(name: str, text: str, kind: Any) -> Any:
    if kind is str:
        if not text:
            raise UserError(f"{name}= is empty; give a value", option=name)
        return text
    if kind is bool:
        if text not in ("true", "false"):
            raise UserError(f"{name} must be true or false, got '{text[:60]}'", option=name)
        return text == "true"
    try:
        if kind is int and not text.lstrip("-").isdecimal():
            raise ValueError
        return kind(text)
    except ValueError:
        number = "whole number" if kind is int else "number"
        raise UserError(f"{name} must be a {number}, got '{text[:60]}'", option=name) from None
