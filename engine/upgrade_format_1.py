"""Translate names of format 1 (checkpoints, options, bundles, W&B runs) into those of format 2.

This is the only module with the old names. Format 2 renamed networks, options and some of their
values; the numbers are the same, so a run of format 1 continues.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

# The first part of a state-dict key: the method's modules.
MODULES = {
    r"to_b\b": "generator_ab", r"to_a\b": "generator_ba", r"judge(?=_|\b)": "discriminator",
    r"game_": "gan_loss_", r"history_": "image_pool_",
}  # fmt: skip
BUFFERS = {
    "probability": "ada_p",
    "sureness": "ada_sign_sums",
}  # of a GAN loss: the last part of a key
ENTRIES = {
    "detours": "rollbacks", "waiting": "frozen_until", "average": "ema", "memories": "rank_states",
}  # fmt: skip
# Options by dotted name; VALUES converts those whose values changed.
OPTIONS = {
    "rates": "lr_multipliers", "every": "update_every", "clip_norm": "clip_grad_norm",
    "accumulate": "microbatches", "not_finite": "on_nonfinite",
    "not_finite_limit": "nonfinite_limit", "evaluate_every": "validate_every",
    "scores": "validation_metrics", "score_images": "validation_images",
    "init_partial": "init_strict", "init_warm_up": "init_freeze_steps",
    "runtime.checkpoint_activations": "runtime.activation_checkpointing",
    "data.keep": "data.memory_cache_gb", "data.cache": "data.disk_cache",
    "data.resident": "data.device_cache", "data.progressive": "data.progressive_crops",
    "data.colour_jitter": "data.color_jitter",
    "method.objective": "method.gan_mode", "method.history": "method.pool_size",
    "method.augment_kinds": "method.diffaug_policy", "method.patch": "method.mask_patch_size",
    "method.hidden": "method.mask_ratio", "method.generator.width": "method.generator.embed_dim",
    "method.generator.heads": "method.generator.num_heads",
    "method.generator.expansion": "method.generator.mlp_ratio",
}  # fmt: skip
# The last part of a method's option, whichever network it belongs to.
LEAVES = {"initial": "init_type", "halvings": "num_downs", "widest": "max_channels"}
NAMED_VALUES = {
    "colour": "color", "shift": "translation", "zero_centred": "zero_centered",
    "plain_unet": "norm_free_unet",
}  # fmt: skip


def _rename_all(names: Any) -> Any:
    """Return named values, a list or its text, under their new names; anything else as it is."""
    if isinstance(names, str):
        return re.sub(r"\w+", lambda word: NAMED_VALUES.get(word[0], word[0]), names)
    return [NAMED_VALUES.get(name, name) for name in names] if isinstance(names, list) else names


def _negated(value: Any) -> Any:
    """Return the opposite of a truth value, which may be the word of one."""
    if isinstance(value, str):
        opposites = {"true": False, "false": True}
        return opposites.get(value.lower(), value)
    return not value


VALUES: dict[str, Callable[[Any], Any]] = {  # by new name
    "init_strict": _negated,
    "validation_metrics": _rename_all,
    "method.diffaug_policy": _rename_all,
    "method.penalty": lambda name: NAMED_VALUES.get(name, name),
    "method.generator.kind": lambda name: NAMED_VALUES.get(name, name),
}
COMMAND_OPTIONS = {  # of test.py, translate.py and export.py, which are not saved
    "weights": "use_ema", "style.share": "style.interpolation",
    "style.coarse": "style.mixing_blocks", "keep_colour": "keep_color",
}  # fmt: skip
LOGGED = {"score/colour": "score/color"}  # keys of metrics.jsonl
WEIGHTS = {"average": "ema", "live": "raw"}  # of a bundle


def upgrade_option(name: str, value: Any) -> tuple[str, Any]:
    """Return an option's dotted name and value in format 2; most are as in format 1."""
    group, _, leaf = name.rpartition(".")
    new = OPTIONS.get(name, name)
    if new == name and group.startswith("method.") and leaf in LEAVES:
        new = f"{group}.{LEAVES[leaf]}"
    convert = VALUES.get(new)
    if convert is None or (new == "init_strict" and name == new):
        return new, value
    try:
        return new, convert(value)
    except TypeError:  # a value that format 1 never wrote: the loader refuses it by name
        return new, value


def new_name(option: str) -> str:
    """Return the name in format 2 of an option that was renamed, also rates.GROUP; else ""."""
    group, _, key = option.rpartition(".")
    if group in OPTIONS:
        return f"{OPTIONS[group]}.{key}"
    new = COMMAND_OPTIONS.get(option, upgrade_option(option, None)[0])
    return "" if new == option else new


def new_value(option: str, value: Any) -> str:
    """Return "=VALUE" where the value of a renamed option was renamed too; else ""."""
    if option == "weights" and value in WEIGHTS:
        return f"={str(value == 'average').lower()}"
    new, converted = upgrade_option(option, value)
    if new not in VALUES or converted is None:
        return ""
    text = f"[{','.join(converted)}]" if isinstance(converted, list) else str(converted)
    return f"={text}".lower()


def upgrade_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options (dotted name -> value) under the names and with the values of format 2."""
    return dict(upgrade_option(name, value) for name, value in values.items())


def upgrade_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a format-1 checkpoint in format 2; tensors are shared, not copied."""
    renamed = {ENTRIES.get(name, name): value for name, value in state.items()}
    if isinstance(renamed.get("method"), Mapping):
        renamed["method"] = upgrade_keys(renamed["method"])
    if isinstance(renamed.get("rank_states"), list):
        renamed["rank_states"] = [upgrade_keys(part) for part in renamed["rank_states"]]
    return renamed


def upgrade_keys(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method's state dict of format 1 under the names of format 2."""
    return {_key(str(name)): value for name, value in state.items()}


def _key(name: str) -> str:
    for old, new in MODULES.items():
        name = re.sub(rf"^{old}", new, name)
    first, _, last = name.rpartition(".")
    return f"{first}.{BUFFERS[last]}" if first.startswith("gan_loss_") and last in BUFFERS else name
