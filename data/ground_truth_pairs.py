"""Pair held-out images of the same scene, so that translations can be compared to ground truth."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import UserError
from common.files import read_json
from common.user_paths import parse_path
from data.config import DataConfig
from data.folders import folder_of


def ground_truth_files(
    config: DataConfig, held_out: Mapping[str, Sequence[Path]]
) -> dict[str, list[Path]]:
    """Return direction "a_to_b" -> the ground-truth file of each held-out image of a, if known.

    A pair is two held-out files with the same path in their folders, without the suffix and without
    a trailing _A or _B. `data.pairs=auto` reads the key `pairs` of ROOT/dataset.json. UserError
    names a file that has no partner, and two files of one domain that have the same name.
    """
    pairs = config.pairs
    if pairs == "auto":
        pairs = _description(config).get("pairs", "none")
    if pairs not in ("forward", "both"):
        return {}
    first, second = config.domains[:2]
    directions = [(first, second)] + ([(second, first)] if pairs == "both" else [])
    truth = {}
    for source, target in directions:
        targets = _by_scene(config, target, held_out[target])
        sources = _by_scene(config, source, held_out[source])
        unpaired = [file for scene, file in sources.items() if scene not in targets]
        if unpaired:
            raise UserError(
                f"data.pairs={config.pairs}: {unpaired[0]} has no partner in {target}; "
                "use data.pairs=none for unpaired held-out images",
                option="data.pairs", path=unpaired[0],
            )  # fmt: skip
        truth[f"{source}_to_{target}"] = [targets[scene] for scene in sources]
    return truth


def _by_scene(config: DataConfig, domain: str, files: Sequence[Path]) -> dict[str, Path]:
    """Return scene -> file: the scene is the path in the folder, without suffix and _A or _B."""
    folder, by_scene = folder_of(config, "test", domain), {}
    for file in files:
        scene = re.sub(r"_[AB]$", "", os.fspath(file.relative_to(folder).with_suffix("")))
        if scene in by_scene:
            raise UserError(
                f"data.pairs={config.pairs}: {by_scene[scene]} and {file} have the same name; "
                "rename or remove one of them",
                option="data.pairs", path=file,
            )  # fmt: skip
        by_scene[scene] = file
    return by_scene


def _description(config: DataConfig) -> dict[str, str]:
    """Return the content of ROOT/dataset.json; empty if there is no such file."""
    description = parse_path(config.root, "data.root") / "dataset.json"
    if not config.root or not description.is_file():
        return {}
    try:
        content = read_json(description)
    except (ValueError, OSError):
        raise UserError(
            f"{description}: not valid JSON; correct or remove it", path=description
        ) from None
    return content if isinstance(content, dict) else {}
