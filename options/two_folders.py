"""Choose options for two folders of images: python train.py PHOTOS PAINTINGS."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.user_paths import parse_path
from data.doctor.quick_check import sample_headers
from data.doctor.recommend import MAX_STRETCH, SIZES, valid_name
from data.folders import files_in
from engine.checkpoint import Checkpoints
from engine.hardware.device import choose_device
from engine.tracking.wandb_config import sweep_suffix

HELD_OUT = 0.1  # of each domain, as data.validation
MIN_IMAGES = 10  # of each domain, to hold some out
PRESETS = {"cuda": "cyclegan", "mps": "cyclegan", "cpu": "cyclegan_small"}  # by device


@dataclass(frozen=True)
class Choice:
    """The preset and the settings for two folders, and the lines that tell the user of them."""

    preset: str
    settings: list[str]
    lines: list[str]


def are_folders(names: Sequence[str]) -> bool:
    """Return whether the words of a command line are two folders, and not one preset."""
    return len(names) == 2 and all(parse_path(name).is_dir() for name in names)


def check_folders(names: Sequence[str]) -> None:
    """Raise UserError where the words of a command line are meant as folders, but are not two."""
    paths = [parse_path(name) for name in names]
    folders = [path for path in paths if path.is_dir() and not _is_run(path)]
    if not folders:
        return
    missing = [path for path in paths if not path.exists()]
    if len(paths) == 2 and missing:
        raise UserError(f"no such folder: {missing[0]}", path=missing[0])
    if len(paths) == 1:
        raise UserError(
            f"{paths[0]} is one folder; name two folders of images, one for each domain, or a preset",
            path=paths[0],
        )
    raise UserError(f"name two folders of images, got {len(paths)} names", path=paths[-1])


def _is_run(folder: Path) -> bool:
    """Return whether a folder is one that a preset can be read from: a run, or an offline W&B run."""
    return (folder / "options.yaml").exists() or any(folder.glob("*.wandb"))


def choose_options(folders: Sequence[str], settings: Sequence[str]) -> Choice:
    """Return the options for two folders; `settings` (name=value) of the user come before ours.

    The domains are named after the folders. A run that has begun keeps the options that it began
    with. UserError where the folders have no images, or one name.
    """
    given: dict[str, str] = {}
    for setting in settings:
        name, _, value = setting.lstrip("-").partition("=")
        given[name] = value
    paths = [parse_path(folder).absolute() for folder in folders]
    files = [files_in(path) for path in paths]
    domains = _domains(paths, given)
    chosen = {
        f"data.train.{domain}": str(path) for domain, path in zip(domains, paths, strict=True)
    }
    chosen["data.domains"] = ",".join(domains)
    chosen["run"] = f"runs/{'-'.join(domains)}{sweep_suffix()}"
    counts = ", ".join(
        f"{domain}: {len(each):,} images" for domain, each in zip(domains, files, strict=True)
    )
    begun = _begun_options(parse_path(given.get("run", chosen["run"]), "run"))
    if begun is not None:
        preset, lines = str(begun), [f"{counts}; the options are those of {begun}"]
    else:
        preset, why = _preset(given)
        size, about_size = _image_options(files, preset, given)
        held_out, about_held_out = _validation(min(map(len, files)), given)
        chosen |= size | held_out
        lines = [f"{counts}; {about_held_out}", f"preset {preset}: {why}{about_size}"]
    ours = [f"{name}={value}" for name, value in chosen.items() if name not in given]
    command = shlex.join(["python", "train.py", preset, *ours, *settings])
    return Choice(preset, [*ours, *settings], [*lines, f"the same in full: {command}"])


def _begun_options(run: Path) -> Path | None:
    """Return options.yaml of a run that has a checkpoint, also of the first of several seeds."""
    runs = [run, *sorted(run.parent.glob(f"{run.name}-seed*"))]
    begun = [r for r in runs if (r / "options.yaml").is_file()]
    begun = [r for r in begun if Checkpoints(r / "checkpoints").exist()]
    return begun[0] / "options.yaml" if begun else None


def _validation(fewest: int, given: dict[str, str]) -> tuple[dict[str, str], str]:
    """Return the images to hold out, as options, and a text that tells it."""
    if any(name.startswith("data.test") for name in given):
        return {}, "test.py uses the folders in data.test"
    if "data.validation" in given:
        text = given["data.validation"]
        if text.strip("0.") == "":
            return {}, "none are held out (data.validation=0)"
        return {}, f"data.validation={text} of each are held out for test.py"
    limit = given.get("data.limit", "0")
    count = min(fewest, int(limit)) if limit.isdecimal() and int(limit) else fewest
    if count < MIN_IMAGES:
        return {}, f"none are held out, as there are fewer than {MIN_IMAGES} of one"
    return {"data.validation": str(HELD_OUT)}, f"{HELD_OUT:.0%} of each are held out for test.py"


def _domains(paths: Sequence[Path], given: dict[str, str]) -> list[str]:
    """Return the names of the domains: the user's, or those of the folders."""
    if "data.domains" in given:
        names = [
            each.strip().strip("'\"") for each in given["data.domains"].strip("[] ").split(",")
        ]
    else:
        names = [valid_name(path.name) for path in paths]
    if len(names) != 2 or names[0] == names[1]:
        raise UserError(
            f"two folders need two names of domains, got {' and '.join(names)}; add "
            "data.domains=photo,monet",
            option="data.domains", path=paths[1],
        )  # fmt: skip
    return names


def _preset(given: dict[str, str]) -> tuple[str, str]:
    """Return the preset that suits the device, and why."""
    device = choose_device(given.get("runtime.device", "auto"))
    reason = "no GPU, so small networks" if device.type == "cpu" else f"trains on {device.type}"
    return PRESETS[device.type], reason


def _image_options(
    files: Sequence[Sequence[Path]], preset: str, given: dict[str, str]
) -> tuple[dict[str, str], str]:
    """Return options that suit the sizes of the images, and a text that tells them."""
    headers = [header for each in files for header in sample_headers(each)]
    if not headers:  # none of the sampled files can be read: training names them
        return {}, ""
    ratios = sorted(max(w, h) / min(w, h) for w, h in headers)
    sides = sorted(min(size) for size in headers)
    chosen: dict[str, str] = {}
    text = ""
    if not {"data.load_size", "data.crop_size"} & given.keys():
        sizes = SIZES if preset == "cyclegan" else SIZES[1:]
        load, crop, _ = next(each for each in sizes if sides[len(sides) // 4] >= each[2])
        if crop != sizes[0][1]:
            chosen |= {"data.load_size": str(load), "data.crop_size": str(crop)}
        text = f"; {crop} pixels"
    if "data.fit" not in given and ratios[len(ratios) * 9 // 10] > MAX_STRETCH:
        chosen["data.fit"] = "short_side"
        text += ", not stretched to squares"
    return chosen, text
