"""Build typed options from presets and key=value words, with OmegaConf."""

import csv
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from common.command_line import split_words
from common.errors import UserError, as_user_error, one_line
from common.files import read_text
from common.suggest import did_you_mean, suggestion
from data.config import ALL_DOMAINS
from engine.tracking.wandb_config import sweep_suffix
from engine.upgrade_format_1 import NAMED_VALUES, new_name, new_value, upgrade_options
from models import methods
from models.method import Method
from options.config import TrainOptions
from options.help import help_page
from options.introspection import Field, option_fields, type_name
from options.presets import FOR_ALL_DOMAINS, OWN, flatten, parsed, preset_layers, preset_list
from options.two_folders import are_folders, check_folders, choose_options

USAGE = """\
usage: python train.py PRESET [option=value ...]
       python train.py FOLDER FOLDER [option=value ...]

PRESET is a name from `python train.py --list`, a file such as runs/NAME/options.yaml, or a run in
W&B (wandb:ENTITY/PROJECT/RUN, or an offline run's folder). Repeat a command to continue its run.
Two folders of images are trained on with options that suit them and this machine, and are named
after the folders. Write lists as [a,b], and quote values with spaces: duration="40 steps".
"""

Schema = TypeVar("Schema")


def train_options(arguments: Sequence[str]) -> TrainOptions | None:
    """Return the options that the command line sets; None after --help or --list, which print.

    UserError names the option, preset or file that is wrong.
    """
    words, settings = split_words(arguments, ("-h", "--help", "--list"))
    switches = {"-h": "help", "--help": "help", "--list": "list"}
    requested = {switches[word] for word in words if word in switches}
    names = [word for word in words if word not in switches]
    if "list" in requested:
        print(preset_list())
        return None
    if are_folders(names):
        choice = choose_options(names, settings)
        names, settings = [choice.preset], choice.settings
        if not requested:
            for line in choice.lines:
                print(line, flush=True)
    check_folders(names)
    if len(names) > 1:
        raise UserError(
            f"one preset at a time, got {' and '.join(names[:3])}; options are written name=value"
        )
    if not names and "help" not in requested:
        raise UserError(
            "name a preset, such as: python train.py demo; --list shows all, --help explains"
        )
    layers = preset_layers(names[0]) if names else []
    method = _method_class(layers, settings)
    replace: dict[str, type] = {"method": method.Config}
    config = _editable(TrainOptions, method.Config)
    known = {field.name: field for field in option_fields(TrainOptions, replace)}
    for origin, values in layers:
        for name, value in values.items():
            _set(config, known, name, value, origin)
    for setting in settings:
        _apply(config, known, setting)
    if "help" in requested:
        print(help_page(USAGE, known.values(), flatten(OmegaConf.to_container(config))))
        return None
    if not config.run:
        config.run = f"runs/{Path(names[0]).stem}{sweep_suffix()}"
    return _to_dataclass(config, TrainOptions)


def with_settings(base: Schema, settings: Sequence[str], usage: str) -> Schema | None:
    """Return `base` (a dataclass) changed by key=value words; None after --help, which prints."""
    known = {field.name: field for field in option_fields(type(base))}
    config = _editable(base)
    for setting in settings:
        if setting in ("-h", "--help"):
            print(help_page(usage, known.values(), flatten(OmegaConf.to_container(config))))
            return None
        if split_words([setting])[0]:
            raise UserError(f"'{setting}' is not an option; options are written name=value")
        _apply(config, known, setting)
    return _to_dataclass(config, type(base))


def to_yaml(options: TrainOptions) -> str:
    """Return all options as YAML; the text is a preset itself."""
    return OmegaConf.to_yaml(OmegaConf.structured(options))


def to_dict(options: TrainOptions) -> dict[str, Any]:
    """Return the options as plain nested containers."""
    return dataclasses.asdict(options)


def from_yaml(text: str, origin: str) -> TrainOptions:
    """Return the options in a text of `to_yaml`; UserError names `origin` if it is not valid."""
    values = upgrade_options(flatten(parsed(text, origin)))
    layers = [(origin, values)]
    method = _method_class(layers, [])
    config = _editable(TrainOptions, method.Config)
    known = {field.name: field for field in option_fields(TrainOptions, {"method": method.Config})}
    for name, value in values.items():
        _set(config, known, name, value, origin)
    return _to_dataclass(config, TrainOptions)


def saved_options(path: Path) -> TrainOptions:
    """Return the options in a file of `to_yaml`; UserError names the file if it is damaged."""
    try:
        return from_yaml(read_text(path), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {one_line(error, 100)}", path=path) from None


def _editable(schema: Any, method: type[Method.Config] | None = None) -> Any:
    """Return a writable structured config: that of a frozen dataclass is read-only at first."""
    config = OmegaConf.structured(schema)
    groups = [config]
    OmegaConf.set_readonly(config, False)
    if method is not None:
        config.method = OmegaConf.structured(method)
    while groups:
        group = groups.pop()
        OmegaConf.set_readonly(group, False)
        groups += [value for value in group.values() if OmegaConf.is_dict(value)]
    return config


def _apply(config: Any, known: Mapping[str, Field], setting: str) -> None:
    """Set one option of a config from a word of the command line, name=value."""
    name, equals, text = setting.partition("=")
    name = name.lstrip("-").strip()
    if not equals:
        hint = did_you_mean(name, ("list", "help")).replace("mean ", "mean --")
        raise UserError(
            f"'{setting}' has no value; options are written {name or 'name'}=value{hint}",
            option=name,
        )
    value: Any = text
    if name in known and _is_text_list(known[name].type):
        value = None if text in ("null", "~") else _words(text)
    elif _type_of(known, name) is not str and not _choices(known, name):
        try:
            value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
        except Exception as error:  # PyYAML's, for text that is not a YAML value
            raise UserError(
                f"{name}: '{text}' is not a valid value: {one_line(error, 80)}", option=name
            ) from None
        value = value["value"] if isinstance(value, dict) else value
    _set(config, known, name, value, "")


def _set(config: Any, known: Mapping[str, Field], name: str, value: Any, origin: str) -> None:
    """Set one option of a config; UserError names the option and `origin`, if it is not empty."""

    def refuse(message: str) -> UserError:
        return UserError(f"{origin}: {message}" if origin else message, option=name, path=origin)

    group, _, leaf = name.rpartition(".")
    has_user_key = group in OWN and group in known
    if name not in known and not has_user_key:
        new = new_name(name)
        if new in known or new.rpartition(".")[0] in OWN:
            hint = f"; it is now called {new}{new_value(name, value)}"
        else:
            hint = suggestion(name, known, str(value))
        raise refuse(f"unknown option '{name}'{hint}")
    if value is None and not _optional(known.get(name)):
        raise refuse(f"{name} needs a value: {name}=...")
    if "${" in str(value):
        raise refuse(f"{name}: references such as ${{...}} are not allowed here")
    if name in FOR_ALL_DOMAINS and name in known and not isinstance(value, dict | None):
        value = {ALL_DOMAINS: str(value)}
    if name in known and _is_list(known[name].type) and not isinstance(value, list | None):
        # a,b is accepted for [a,b], and 3 for [3]
        value = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
    if name in known and _is_text_list(known[name].type) and isinstance(value, list):
        value = [_as_written(part) for part in value]
    try:
        if has_user_key:
            OmegaConf.select(config, group)[leaf] = _converted(value, _type_of(known, name))
        else:
            if _type_of(known, name) is bool and not isinstance(value, bool):
                raise ValueError  # OmegaConf takes every number but 0 for true
            if isinstance(value, float) and value.is_integer() and _type_of(known, name) is int:
                value = int(value)  # 1e3
            OmegaConf.update(config, name, value, merge=False)
    except (OmegaConfBaseException, TypeError, ValueError, OverflowError) as error:
        kinds = {int: "a whole number", float: "a number", bool: "true or false"}
        if kind := kinds.get(_type_of(known, name)):
            raise refuse(f"{name}: '{str(value)[:80]}' is not {kind}") from None
        if choices := _choices(known, name):
            new = NAMED_VALUES.get(str(value), "")
            hint = (
                f"; it is now called {new}" if new in choices else did_you_mean(str(value), choices)
            )
            raise refuse(
                f"{name}: '{str(value)[:80]}' is not one of {', '.join(choices)}{hint}"
            ) from None
        raise refuse(f"{name}: {one_line(error, 120)}") from None


def _to_dataclass(config: Any, schema: type[Schema]) -> Schema:
    """Return a config as its dataclass, which checks itself; UserError names the wrong option."""
    for name, value in flatten(OmegaConf.to_container(config)).items():
        for number in _numbers(value):
            if not math.isfinite(number):
                raise UserError(f"{name} must be a finite number, got {number}", option=name)
        text = "".join(_texts(value))
        if "\0" in text:
            raise UserError(f"{name}: the text contains a zero byte", option=name)
        if any("\ud800" <= letter <= "\udfff" for letter in text):  # options.yaml could not hold it
            raise UserError(
                f"{name}: the text is not UTF-8; rename the file or folder", option=name
            )
    try:
        options = OmegaConf.to_object(config)
    except UserError:
        raise
    except (ValueError, OmegaConfBaseException) as error:
        raise as_user_error(ValueError(one_line(error))) from None
    assert isinstance(options, schema)
    return options


def _method_class(
    layers: Sequence[tuple[str, Mapping[str, Any]]], settings: Sequence[str]
) -> type[Method]:
    """Return the class that method.name names, by the last layer or setting that sets it."""
    name: Any = "cyclegan"
    for _, values in layers:
        name = values.get("method.name", name)
    for setting in settings:
        if setting.lstrip("-").startswith("method.name="):
            name = setting.partition("=")[2]
    try:
        return methods.find(str(name))
    except KeyError:
        known = methods.names()
        raise UserError(
            f"unknown method.name '{name}'{did_you_mean(str(name), known)}", option="method.name"
        ) from None


def _type_of(known: Mapping[str, Field], name: str) -> Any:
    """Return the type of an option, or of a value in a group of `OWN`."""
    group = name.rpartition(".")[0]
    if name not in known and group in OWN and group in known:
        return get_args(known[group].type)[1]
    return known[name].type if name in known else str


def _choices(known: Mapping[str, Field], name: str) -> tuple[str, ...]:
    """Return the values of an option that is one of a few words; else ()."""
    kind = known[name].type if name in known else None
    words = get_args(kind) if get_origin(kind) is Literal else ()
    return words if all(isinstance(word, str) for word in words) else ()


def _converted(value: Any, kind: Any) -> Any:
    """Return a value as a str or number of type `kind`; ValueError if it is not one."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is not str and not (numeric and (kind is float or value == int(value))):
        raise ValueError(f"'{value}' is not a {type_name(kind)}")
    return kind(value)


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers in a value, also those inside lists and dicts."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _numbers(part)


def _texts(value: Any) -> Iterator[str]:
    """Yield the strings in a value, also those inside lists and dicts, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in [*value, *value.values()] if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _is_list(kind: Any) -> bool:
    return list in (get_origin(kind), *(get_origin(part) for part in get_args(kind)))


def _is_text_list(kind: Any) -> bool:
    """Return whether an option is a list of words, also one of a few (Literal), or null."""
    lists = [part for part in (kind, *get_args(kind)) if get_origin(part) is list]
    return any(
        inner is str or (get_origin(inner) is Literal and isinstance(get_args(inner)[0], str))
        for part in lists for inner in get_args(part)
    )  # fmt: skip


def _words(text: str) -> list[str]:
    """Return the words of "[01, no]" or "01,no" as they are written; quotes are taken off."""
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    try:
        words = next(csv.reader([inner], skipinitialspace=True), [])
    except csv.Error as error:
        raise UserError(f"'{text[:60]}' is not a list of words ({one_line(error, 60)})") from None
    return [word.strip().strip("'\"") for word in words if word.strip() or len(words) > 1]


def _as_written(part: Any) -> Any:
    """Return an item of a list of words, which YAML took for null or a truth value, as text."""
    plain = {None: "null", True: "true", False: "false"}
    return plain[part] if part is None or isinstance(part, bool) else part


def _optional(field: Field | None) -> bool:
    return field is not None and type(None) in getattr(field.type, "__args__", ())
