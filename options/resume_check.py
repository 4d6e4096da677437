"""Whether two configurations describe one run, and what of them may differ."""

from pathlib import Path

from common.errors import UserError
from options.config import TrainOptions
from options.help import shown
from options.load import to_dict
from options.presets import flatten

# What may change when a run is continued: it alters how one watches or feeds the run, not its result.
MAY_CHANGE = (
    "data.workers",
    "data.disk_cache",
    "data.memory_cache_gb",
    "data.device_cache",
    "checkpoint_every",
    "validate_every",
    "keep_checkpoints",
    "on_save_error",
    "on_nonfinite",
    "nonfinite_limit",
    "log.",
    "runtime.timeout",
)


def check_same(run: Path, saved: TrainOptions, wanted: TrainOptions) -> None:
    """Raise UserError, with the differences, where a run folder holds another configuration."""
    changed = differing(saved, wanted)
    if changed:
        more = f", and {len(changed) - 4} more" if len(changed) > 4 else ""
        raise UserError(
            f"{run} holds a run of other options ({', '.join(changed[:4])}{more}); "
            "choose another run=, or repeat its command to continue it"
        )


def differing(one: TrainOptions, other: TrainOptions) -> list[str]:
    """Return the options that make two runs different, each as `name this -> that`."""
    old, new = flatten(to_dict(one)), flatten(to_dict(other))
    return [
        f"{name} {shown(old.get(name))} -> {shown(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not may_change(name)
    ]


def may_change(name: str) -> bool:
    """Say whether an option alters how one watches or feeds a run, and not its result."""
    return name in ("run", "seeds") or name.startswith(MAY_CHANGE)
