"""Format the --help page of a command: every option with its value and explanation."""

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from options.introspection import Field, type_name


def help_page(usage: str, fields: Iterable[Field], values: Mapping[str, Any]) -> str:
    """Return the usage and all options by group, each with its value in `values` or its default."""
    width = max(72, min(110, shutil.get_terminal_size((100, 24)).columns))
    lines, group = [usage.strip(), ""], None
    for option in fields:
        own_group = option.name.rpartition(".")[0]
        if own_group != group:
            lines += ["", f"{own_group}:" if own_group else "options:"]
            group = own_group
        value = values.get(option.name, option.default)
        head = f"  {option.name}={shown(value)}"
        text = f"{option.explanation} ({type_name(option.type)})"
        body = textwrap.wrap(text, width - 42)
        if len(head) > 40:
            lines.append(head)
            head = ""
        lines += [f"{head if number == 0 else '':<41} {part}" for number, part in enumerate(body)]
    return "\n".join(lines)


def shown(value: Any) -> str:
    """Return a value as a user types it on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return "[" + ",".join(shown(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    text = str(value)
    return f'"{text}"' if " " in text else text
