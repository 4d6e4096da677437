"""Read presets: short YAML files named after a paper or an experiment, each based on another."""

import dataclasses
import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from common.errors import UserError, one_line
from common.files import read_text
from common.suggest import did_you_mean
from common.user_paths import parse_path
from engine.tracking.wandb_download import is_wandb_name, run_config
from engine.upgrade_format_1 import upgrade_option, upgrade_options
from options.config import TrainOptions

# Groups whose keys the user chooses: folders by domain, numbers by optimizer group.
OWN = (
    "data.train",
    "data.test",
    "data.range",
    "data.dtype",
    "lr_multipliers",
    "update_every",
    "clip_grad_norm",
)
FOR_ALL_DOMAINS = ("data.range", "data.dtype")  # of them, those that also take one value for all
# Options that a repeated run does not take over: where it writes, and what it sends to W&B.
OWNERS = frozenset(
    ["run", "data.disk_cache", "log.wandb", "log.project", "log.group", "log.tags", "log.artifacts"]
)
PRESETS = Path(__file__).parent / "presets"


class PlainLoader(yaml.SafeLoader):
    """Reads YAML as people write it: 01, no, on and 1_1 are words, and 2e-4 is a number.

    YAML 1.1 reads them as numbers and truth values, which domains and folders are not.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node; YAMLError for an alias, of which few can stand for millions."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping whose keys are the words that are written, such as 01 or true.

        ConstructorError where a key occurs twice.
        """
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = "tag:yaml.org,2002:str"
                if key.value in keys:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value} is given twice", key.start_mark
                    )
                keys.add(key.value)
        return super().construct_mapping(node, deep)


for tag, pattern, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
     r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
     "-+0123456789."),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
):  # fmt: skip
    # In this order: what is an int is no float.
    PlainLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first)
    )


def preset_layers(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (origin, dotted name -> value) of a preset and its bases, the base first.

    UserError names a preset that is unknown, unreadable or not valid, or whose bases form a cycle.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    seen: set[str] = set()
    current: str | None = name
    while current:
        if is_wandb_name(current):
            layers.insert(0, (current, remote_values(current)))
            break
        path = _preset_path(current)
        if str(path) in seen:
            raise UserError(f"{path}: the presets form a cycle; remove one base:", path=path)
        seen.add(str(path))
        try:
            text = read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{path}: cannot be read as a preset: {one_line(error, 100)}", path=path
            ) from None
        content = parsed(text, str(path))
        base = content.pop("base", None)
        if base is not None and not isinstance(base, str):
            raise UserError(f"{path}: base must be the name of a preset", option="base", path=path)
        layers.insert(0, (str(path), upgrade_options(flatten(content))))
        current = base
    return layers


def remote_values(name: str) -> dict[str, Any]:
    """Return dotted name -> value of the options in a W&B run's configuration.

    Other values in it, and the options of `OWNERS`, are left out. UserError names the run if its
    configuration was not written by train.py.
    """
    fields = {field.name for field in dataclasses.fields(TrainOptions)}
    config = run_config(name).items()
    content = {key: value for key, value in config if upgrade_option(key, None)[0] in fields}
    not_ours = UserError(f"{name}: this W&B run has no configuration of train.py", path=name)
    if "method" not in content or "data" not in content:
        raise not_ours
    try:
        values = upgrade_options(flatten(content))
    except RecursionError:
        raise not_ours from None
    return {option: value for option, value in values.items() if option not in OWNERS}


def preset_names() -> list[str]:
    """Return the names of the presets in options/presets, sorted."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_list() -> str:
    """Return a line for every preset: its name and the first comment of its file."""
    lines = []
    for name in preset_names():
        first = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
        lines.append(f"  {name:<20} {first.lstrip('# ')}")
    return "presets:\n" + "\n".join(lines)


def parsed(text: str, origin: str) -> dict[str, Any]:
    """Return the content of a YAML text; UserError names `origin` if it is not a dict."""
    try:
        content = PlainLoader(text).get_single_data()
        content = {} if content is None else content
    except Exception as error:  # PyYAML and, for deep nesting, RecursionError
        raise UserError(f"{origin}: not valid YAML: {one_line(error, 120)}", path=origin) from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{origin}: a preset must consist of 'name: value' lines", path=origin)
    return {str(key): value for key, value in content.items()}


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested groups of values under dotted names; groups of `OWN` stay dicts."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        current = upgrade_option(name, None)[0]  # in format 1 some groups of OWN had other names
        if isinstance(value, dict) and current not in OWN:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _preset_path(name: str) -> Path:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = parse_path(name)
        if path.is_dir():
            path = path / "options.yaml"
        if not path.is_file():
            raise UserError(f"no such preset file: {path}", path=path)
        return path
    if name not in preset_names():
        raise UserError(
            f"unknown preset '{name}'{did_you_mean(name, preset_names()) or '; --list shows all'}"
        )
    return PRESETS / f"{name}.yaml"
