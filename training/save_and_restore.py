"""Save and restore a run: the state that all ranks share, and the state of each rank."""

from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import read_text
from engine.checkpoint import Checkpoints
from engine.checkpoint_content import check_content
from engine.distributed.rank_state import check_ranks_agree, rank_state, reshard, state_checksum
from engine.train_step import TrainStep
from engine.validation import SCORE_DEFINITION


class RunCheckpoints:
    """The checkpoints of a run in RUN/checkpoints; the main process reads and writes for all ranks.

    Every method but the constructor is a collective: all ranks must call it.
    """

    def __init__(self, folder: Path, train_step: TrainStep) -> None:
        self.folder = folder
        self.train_step = train_step
        self.distributed = train_step.runtime.distributed
        self.files = Checkpoints(folder / "checkpoints", train_step.config.keep_checkpoints)
        self.seconds = 0.0  # of training so far
        self.score_definition = SCORE_DEFINITION  # of the scores that the run began with
        self.options_text = ""  # options.yaml of the restored checkpoint

    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint to continue from, on all ranks."""
        return self.distributed.call_on_main(self.files.exist)

    def is_best(self, score: float | None) -> bool:
        """Return whether `score` is lower than that of every checkpoint; False for None."""
        return score is not None and self.distributed.call_on_main(
            lambda: self.files.is_best(score)
        )

    def save(self, score: float | None) -> Path:
        """Write a checkpoint of everything the run depends on; return its path.

        RunError: the ranks do not agree, or the checkpoint could not be written.
        """
        state, step = self.train_step.state(), self.train_step.step
        rank_states = self.distributed.gather_object(rank_state(state["method"]))
        self.check_ranks_agree()
        if not self.distributed.is_main_process:
            return self.files.folder
        options = read_text(self.folder / "options.yaml")
        state |= {
            "seconds": self.seconds, "options": options, "score_definition": self.score_definition
        }  # fmt: skip
        if self.distributed.is_distributed:
            state["rank_states"] = rank_states
        return self.files.save(state, step, score)

    def restore(self) -> None:
        """Load the latest checkpoint on all ranks; UserError if it does not fit the networks."""
        state: dict[str, Any] = {}
        if self.distributed.is_main_process:
            state = self.files.load_latest()
            check_content(state, self.folder)
        if self.distributed.is_distributed or "rank_states" in state:
            rank_states = state.pop("rank_states", None) or [rank_state(state.get("method", {}))]
            world_size = self.distributed.world_size
            own_state = self.distributed.scatter_object(
                [reshard(rank_states, rank, world_size) for rank in range(world_size)]
            )
            state = self.distributed.call_on_main(lambda: state)
            state["method"] = {**state["method"], **own_state}
        try:
            self.train_step.restore(state)
        except UserError as error:
            raise UserError(
                f"{self.folder}: {error}", option=error.option, path=self.folder
            ) from None
        self.seconds = state.get("seconds", 0.0)
        self.score_definition = state.get("score_definition", 1)
        self.options_text = state["options"]

    def check_ranks_agree(self) -> None:
        """Raise RunError if the ranks differ in weights, optimizer moments or moving averages."""
        if self.distributed.is_distributed:
            checksum = state_checksum(self.train_step.state())
            check_ranks_agree(self.distributed.gather_object(checksum))
