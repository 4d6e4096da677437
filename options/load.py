"""From presets and key=value words to typed options; the only place that knows OmegaConf."""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from common.command_line import split_words
from common.errors import UserError, one_line
from common.suggest import did_you_mean, suggestion
from engine.format_1 import upgrade_options
from engine.tracking.wandb_run import clean_name
from models import methods
from models.method import Method
from options.config import TrainOptions
from options.help import help_page
from options.introspection import Field, option_fields, type_name
from options.presets import OWN, flatten, parsed, preset_layers, preset_list

USAGE = """\
usage: python train.py PRESET [option=value ...]

PRESET is a name from `python train.py --list`, a file such as runs/NAME/options.yaml, or a run in W&B
(wandb:ENTITY/PROJECT/RUN, or an offline run's folder). The same command again continues its run. Lists
are written [a,b]; quote what has spaces: duration="40 steps".
"""

Schema = TypeVar("Schema")


def train_options(arguments: Sequence[str]) -> TrainOptions | None:
    """Return what the command line asks for; None where it asked for help, which is printed."""
    words, settings = split_words(arguments, ("-h", "--help", "--list"))
    asked = {"-h": "help", "--help": "help", "--list": "list"}
    wishes = {asked[word] for word in words if word in asked}
    names = [word for word in words if word not in asked]
    if "list" in wishes:
        print(preset_list())
        return None
    if len(names) > 1:
        raise UserError(
            f"one preset at a time, got {' and '.join(names[:3])}; options are written name=value"
        )
    if not names and "help" not in wishes:
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
    if "help" in wishes:
        print(help_page(USAGE, known.values(), flatten(OmegaConf.to_container(config))))
        return None
    if not config.run:
        config.run = f"runs/{Path(names[0]).stem}{_trial()}"
    return _typed(config, TrainOptions)


def with_settings(base: Schema, settings: Sequence[str], usage: str) -> Schema | None:
    """Return `base` (a dataclass) changed by key=value words; None where help was asked for."""
    known = {field.name: field for field in option_fields(type(base))}
    config = _editable(base)
    for setting in settings:
        if setting in ("-h", "--help"):
            print(help_page(usage, known.values(), flatten(OmegaConf.to_container(config))))
            return None
        if split_words([setting])[0]:
            raise UserError(f"'{setting}' is not understood; options are written name=value")
        _apply(config, known, setting)
    return _typed(config, type(base))


def to_yaml(options: TrainOptions) -> str:
    """Return the whole resolved configuration; it is a preset itself."""
    return OmegaConf.to_yaml(OmegaConf.structured(options))


def to_dict(options: TrainOptions) -> dict[str, Any]:
    """Return the options as plain nested containers."""
    return dataclasses.asdict(options)


def from_yaml(text: str, origin: str) -> TrainOptions:
    """Return the options that `to_yaml` wrote; UserError names `origin` where the text is not such."""
    values = upgrade_options(flatten(parsed(text, origin)))
    layers = [(origin, values)]
    method = _method_class(layers, [])
    config = _editable(TrainOptions, method.Config)
    known = {field.name: field for field in option_fields(TrainOptions, {"method": method.Config})}
    for name, value in values.items():
        _set(config, known, name, value, origin)
    return _typed(config, TrainOptions)


def saved_options(path: Path) -> TrainOptions:
    """Return the options in a file that `to_yaml` wrote; UserError names it where it is damaged."""
    try:
        return from_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {one_line(error, 100)}") from None


def _trial() -> str:
    """Return what sets the folder of a sweep's run apart from those of its other runs."""
    swept = os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID")
    return f"-{clean_name(swept)}" if swept else ""


def _editable(schema: Any, method: type[Method.Config] | None = None) -> Any:
    """Return a structured config that can be set; from frozen dataclasses it comes read-only."""
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
    name, equals, text = setting.partition("=")
    name = name.lstrip("-").strip()
    if not equals:
        meant = did_you_mean(name, ("list", "help")).replace("mean ", "mean --")
        raise UserError(
            f"'{setting}' is not understood; options are written {name or 'name'}=value{meant}"
        )
    value: Any = text
    if _type_of(known, name) is not str:
        try:
            value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
        except Exception as error:  # PyYAML's, for text that is no value
            raise UserError(f"{name}: '{text}' is not understood: {one_line(error, 80)}") from None
        value = value["value"] if isinstance(value, dict) else value
    _set(config, known, name, value, "")


def _set(config: Any, known: Mapping[str, Field], name: str, value: Any, origin: str) -> None:
    where = f"{origin}: " if origin else ""
    group, _, leaf = name.rpartition(".")
    own = group in OWN and group in known
    if name not in known and not own:
        raise UserError(f"{where}unknown option '{name}'{suggestion(name, known)}")
    if value is None and not _optional(known.get(name)):
        raise UserError(f"{where}{name} needs a value: {name}=...")
    if "${" in str(value):
        raise UserError(f"{where}{name}: references such as ${{...}} are not allowed here")
    if name in known and _is_list(known[name].type) and not isinstance(value, list | None):
        # a,b is as good as [a,b], and 3 as [3]
        value = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
    try:
        if own:
            OmegaConf.select(config, group)[leaf] = _converted(value, _type_of(known, name))
        else:
            if isinstance(value, float) and value.is_integer() and _type_of(known, name) is int:
                value = int(value)  # 1e3
            OmegaConf.update(config, name, value, merge=False)
    except (OmegaConfBaseException, TypeError, ValueError, OverflowError) as error:
        if _type_of(known, name) in (int, float):
            kind = type_name(_type_of(known, name))
            raise UserError(f"{where}{name}: '{str(value)[:80]}' is not a {kind}") from None
        raise UserError(f"{where}{name}: {one_line(error, 120)}") from None


def _typed(config: Any, schema: type[Schema]) -> Schema:
    for name, value in flatten(OmegaConf.to_container(config)).items():
        for number in _numbers(value):
            if not math.isfinite(number):
                raise UserError(f"{name} must be a finite number, got {number}")
        text = "".join(_texts(value))
        if "\0" in text:
            raise UserError(f"{name}: the text has a zero byte in it")
        if any("\ud800" <= letter <= "\udfff" for letter in text):  # options.yaml could not hold it
            raise UserError(f"{name}: the text is not UTF-8; rename the file or folder")
    try:
        options = OmegaConf.to_object(config)
    except UserError:
        raise
    except (ValueError, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from None
    assert isinstance(options, schema)
    return options


def _method_class(
    layers: Sequence[tuple[str, Mapping[str, Any]]], settings: Sequence[str]
) -> type[Method]:
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
        raise UserError(f"unknown method.name '{name}'{did_you_mean(str(name), known)}") from None


def _type_of(known: Mapping[str, Field], name: str) -> Any:
    """Return the type of an option, or of what stands under a name of the user's own."""
    group = name.rpartition(".")[0]
    if name not in known and group in OWN and group in known:
        return get_args(known[group].type)[1]
    return known[name].type if name in known else str


def _converted(value: Any, kind: Any) -> Any:
    """Return a value as a text or number of this kind; ValueError where it is none."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is not str and not (numeric and (kind is float or value == int(value))):
        raise ValueError(f"'{value}' is not a {type_name(kind)}")
    return kind(value)


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers in a value, a list's and a dict's included."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _numbers(part)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value, a list's and a dict's included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in [*value, *value.values()] if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _is_list(kind: Any) -> bool:
    return list in (get_origin(kind), *(get_origin(part) for part in get_args(kind)))


def _optional(field: Field | None) -> bool:
    return field is not None and type(None) in getattr(field.type, "__args__", ())
