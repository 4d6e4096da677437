"""Check that a run continues with the options that it began with."""

from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from options.config import TrainOptions
from options.help import shown
from options.load import to_dict
from options.presets import flatten

# Options that may change when a run continues: they affect its speed and logs, not its weights.
MAY_CHANGE = (
    "data.workers",
    "data.disk_cache",
    "data.memory_cache_gb",
    "data.device_cache",
    "data.max_megapixels",
    "checkpoint_every",
    "validate_every",
    "keep_checkpoints",
    "on_save_error",
    "on_nonfinite",
    "nonfinite_limit",
    "log.",
    "runtime.timeout",
)
# These say where the images are: another place is accepted where their contents are the same.
FOLDER_OPTIONS = ("data.root", "data.train", "data.test")
# These say how long it is: accepted where the steps that are done keep their learning rates.
DURATION_OPTIONS = ("duration ", "decay_after ")
# These say how the run is computed: another way is accepted, but the bits differ from then on.
DEVICE_OPTIONS = ("runtime.device", "runtime.threads", "runtime.compile", "runtime.cuda_graph")


def check_same(
    run: Path, saved: TrainOptions, wanted: TrainOptions, allowed: Sequence[str] = ()
) -> None:
    """Raise UserError, with the differences, if the run folder was begun with other options.

    Differences of options that begin with one of `allowed` are accepted.
    """
    changed = [text for text in differing(saved, wanted) if not text.startswith(tuple(allowed))]
    if changed:
        more = f", and {len(changed) - 4} more" if len(changed) > 4 else ""
        raise UserError(
            f"{run} holds a run with other options ({', '.join(changed[:4])}{more}); "
            "choose another run=, or repeat its command to continue it",
            option=changed[0].partition(" ")[0],
            path=run,
        )


def differing(one: TrainOptions, other: TrainOptions) -> list[str]:
    """Return the options that make two runs different, each as `name old -> new`."""
    old, new = flatten(to_dict(one)), flatten(to_dict(other))
    return [
        f"{name} {shown(old.get(name))} -> {shown(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not may_change(name)
    ]


def may_change(name: str) -> bool:
    """Return whether an option may change when a run continues: it does not affect the weights."""
    return name in ("run", "seeds") or name.startswith(MAY_CHANGE)
