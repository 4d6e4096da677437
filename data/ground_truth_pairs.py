"""Which held-out images show one scene, so that a translation has a truth."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import UserError
from common.user_paths import parse_path
from data.config import DataConfig
from data.folders import folder_of


def ground_truth_files(
    config: DataConfig, held_out: Mapping[str, Sequence[Path]]
) -> dict[str, list[Path]]:
    """Return direction "a_to_b" -> the true file for each held-out image of a, where known.

    `data.pairs=auto` believes what ROOT/dataset.json says in its key `pairs`. A pair is two held-out
    files of one name in their folders (suffix and a trailing _A or _B aside); UserError names one
    that has no partner.
    """
    pairs = config.pairs
    if pairs == "auto":
        pairs = _described(config).get("pairs", "none")
    if pairs not in ("forward", "both"):
        return {}
    first, second = config.domains[:2]
    directions = [(first, second)] + ([(second, first)] if pairs == "both" else [])
    truth = {}
    for source, target in directions:
        by_name = _by_scene(config, target, held_out[target])
        wanted = _by_scene(config, source, held_out[source])
        lonely = [file for name, file in wanted.items() if name not in by_name]
        if lonely:
            raise UserError(
                f"data.pairs={config.pairs}: {lonely[0]} has no partner in {target}; "
                "use data.pairs=none for unpaired held-out images"
            )
        truth[f"{source}_to_{target}"] = [by_name[name] for name in wanted]
    return truth


def _by_scene(config: DataConfig, domain: str, files: Sequence[Path]) -> dict[str, Path]:
    """Return the files of a domain by their name in its folder, without suffix and _A or _B."""
    folder, found = folder_of(config, "test", domain), {}
    for file in files:
        name = re.sub(r"_[AB]$", "", os.fspath(file.relative_to(folder).with_suffix("")))
        if name in found:
            raise UserError(f"data.pairs={config.pairs}: {found[name]} and {file} have one name")
        found[name] = file
    return found


def _described(config: DataConfig) -> dict[str, str]:
    description = parse_path(config.root, "data.root") / "dataset.json"
    if not config.root or not description.is_file():
        return {}
    try:
        content = json.loads(description.read_text())
    except (ValueError, OSError):
        raise UserError(f"{description}: not valid JSON; mend or remove it") from None
    return content if isinstance(content, dict) else {}
