"""Save and restore a run: what all ranks share, and the part of the state that each rank has of its own."""

from pathlib import Path
from typing import Any

from common.errors import UserError
from engine.checkpoint import Checkpoints
from engine.distributed.rank_state import check_ranks_agree, rank_state, reshard, state_checksum
from engine.train_step import TrainStep


class RunCheckpoints:
    """The checkpoints of a run in RUN/checkpoints; the main process reads and writes for all ranks.

    Every method but the constructor is a collective: all ranks call it.
    """

    def __init__(self, folder: Path, train_step: TrainStep) -> None:
        self.folder = folder
        self.train_step = train_step
        self.distributed = train_step.runtime.distributed
        self.files = Checkpoints(folder / "checkpoints", train_step.config.keep_checkpoints)
        self.seconds = 0.0  # of training so far
        self.options_text = ""  # options.yaml of the restored checkpoint

    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint to continue from, on all ranks."""
        return self.distributed.call_on_main(self.files.exist)

    def is_best(self, score: float | None) -> bool:
        """Return whether `score` is lower than that of every checkpoint; None is not."""
        return score is not None and self.distributed.call_on_main(
            lambda: self.files.is_best(score)
        )

    def save(self, score: float | None) -> Path:
        """Write a checkpoint of everything the run depends on; return its path."""
        state, step = self.train_step.state(), self.train_step.step
        rank_states = self.distributed.gather_object(rank_state(state["method"]))
        self.check_ranks_agree()
        if not self.distributed.is_main_process:
            return self.files.folder
        options = (self.folder / "options.yaml").read_text(encoding="utf-8")
        state |= {"seconds": self.seconds, "options": options}
        if self.distributed.is_distributed:
            state["rank_states"] = rank_states
        return self.files.save(state, step, score)

    def restore(self) -> None:
        """Continue from the latest checkpoint; UserError where it does not fit the networks."""
        state: dict[str, Any] = self.files.load_latest() if self.distributed.is_main_process else {}
        if self.distributed.is_distributed or "rank_states" in state:
            rank_states = state.pop("rank_states", None) or [rank_state(state.get("method", {}))]
            count = self.distributed.world_size
            own = self.distributed.scatter_object(
                [reshard(rank_states, rank, count) for rank in range(count)]
            )
            state = self.distributed.call_on_main(lambda: state)
            state["method"] = {**state["method"], **own}
        try:
            self.train_step.restore(state)
        except UserError as error:
            raise UserError(f"{self.folder}: {error}", path=self.folder) from None
        self.seconds = state["seconds"]
        self.options_text = state["options"]

    def check_ranks_agree(self) -> None:
        """Raise RunError where the ranks do not have the same weights, moments and averages."""
        if self.distributed.is_distributed:
            checksum = state_checksum(self.train_step.state())
            check_ranks_agree(self.distributed.gather_object(checksum))
