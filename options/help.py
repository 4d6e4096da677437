"""The one page with every option of a command, and the list of presets."""

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from options.introspection import Field, type_name


def help_page(usage: str, fields: Iterable[Field], values: Mapping[str, Any]) -> str:
    """Return the options grouped, with their values (`values` by name, else the default)."""
    width = max(72, min(110, shutil.get_terminal_size((100, 24)).columns))
    lines, group = [usage.strip(), ""], None
    for option in fields:
        here = option.name.rpartition(".")[0]
        if here != group:
            lines += ["", f"{here}:" if here else "options:"]
            group = here
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
    """Return a value as it is typed on the command line."""
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
