"""Log a run to Weights & Biases; the only module that imports its library."""

import math
import os
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.errors import one_line
from common.run_main import exit_without_waiting
from engine.tracking.background_calls import BackgroundCalls
from engine.tracking.wandb_config import LogConfig, clean_name, has_key, wandb_mode

Job = Literal["train", "eval", "export"]
INIT_TIMEOUT = 30  # seconds until the server must have answered; then the run is offline
STOP_TIMEOUT = 4  # seconds for the end of a run that a signal stopped
FINISH_TIMEOUT, UPLOAD_TIMEOUT = 60, 3600  # seconds, without and with artifacts to upload


class WandbRun:
    """A run in Weights & Biases; whatever fails there, training goes on.

    Steps are those of the run, so a resumed run continues its charts; `images` is the x axis of
    every chart, so that batch sizes can be compared. `message` describes the state for the
    terminal.
    """

    def __init__(
        self, config: LogConfig, run_folder: Path, run_id: str, resolved: Mapping[str, Any],
        job: Job = "train",
    ) -> None:  # fmt: skip
        self.run: Any = None
        self.job = job
        self.best: dict[str, float] = {}
        self._calls = BackgroundCalls()
        self._failed = False
        self.uploads = False  # whether artifacts are uploaded: only if the run is online
        self.message = "W&B: disabled"
        mode = wandb_mode(config.wandb)
        if mode == "disabled":
            return
        lacks_key = mode == "online" and not has_key()  # the library would ask for one and wait
        mode = "offline" if lacks_key else mode
        try:
            self._start(config, mode, run_folder, run_id, resolved)
            self.message += " (no key for online: wandb login)" if lacks_key else ""
        except Exception as error:  # of the library, the network or the server
            self.message = f"W&B: not available ({one_line(error, 120)}); "
            if mode == "offline":
                self.message += "logging to metrics.jsonl only"
                return
            try:
                self._abandon()
                self._start(config, "offline", run_folder, run_id, resolved)
                offline = self.message.removeprefix("W&B: ")
                self.message = f"W&B: online failed ({one_line(error, 120)}); {offline}"
            except Exception as offline_error:
                self.message += f"offline failed too ({one_line(offline_error, 80)})"

    def _start(
        self, config: LogConfig, mode: str, folder: Path, run_id: str, resolved: Mapping[str, Any]
    ) -> None:
        wandb = import_wandb()
        name = clean_name(folder.resolve().name) + ("" if self.job == "train" else f"-{self.job}")
        in_sweep = "WANDB_SWEEP_ID" in os.environ and self.job == "train"  # the agent sets the id
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or config.project,
            name=os.environ.get("WANDB_NAME") or name, job_type=self.job,
            id=None if in_sweep else run_id, resume=None if in_sweep else "allow",
            dir=os.environ.get("WANDB_DIR") or str(folder), config=dict(resolved),
            group=clean_name(config.group) if config.group else None, tags=config.tags, mode=mode,
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=INIT_TIMEOUT,
                finish_timeout=UPLOAD_TIMEOUT if config.artifacts else FINISH_TIMEOUT,
                x_save_requirements=False,
            ),
        )  # fmt: skip
        self.run.define_metric("images")
        self.run.define_metric("*", step_metric="images")
        self.uploads = config.artifacts and mode == "online"
        self.message = f"W&B: {mode} run {self.run.id}"
        if mode == "offline":
            self.message += f", upload it with: wandb sync {_offline_folders(self.run.dir)}"
        elif self.run.url:
            self.message += f" at {self.run.url}"

    def _abandon(self) -> None:
        """End the library's service, which otherwise holds the id of a run that could not start."""
        self.run = None
        with suppress(Exception):  # of the library: what failed may fail again while it ends
            import_wandb().teardown(exit_code=1)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Log numbers by name at a step of the run."""
        copied = dict(values)
        self._safely(lambda: self.run.log(copied, step=step))

    def update_best(self, scores: Mapping[str, float]) -> None:
        """Set best/NAME in the summary to the lowest score/NAME so far, for sweeps and tables."""
        for name, value in scores.items():
            if not isinstance(value, int | float):  # metrics.jsonl may have been edited
                continue
            best = f"best/{name.removeprefix('score/')}"
            self.best[best] = min(value, self.best.get(best, math.inf))
        if scores:
            self.update_summary(self.best)

    def update_summary(self, values: Mapping[str, Any]) -> None:
        """Set values of the summary, which W&B shows in its tables of runs."""
        copied = dict(values)
        self._safely(lambda: self.run.summary.update(copied))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table, once."""
        cells = [list(row) for row in rows]

        def send() -> None:
            with _staged_in(Path(self.run.dir).parent):
                self.run.log({name: import_wandb().Table(columns=list(columns), data=cells)})

        self._safely(send)

    def use_artifact(
        self, name: str, kind: str, files: Mapping[str, Path], metadata: Mapping[str, Any]
    ) -> None:
        """Record an artifact of these files as an input; create it where the server has none."""
        self._with_artifact(
            name, lambda: self.run.use_artifact(make_artifact(name, kind, files, metadata))
        )

    def use_known_artifact(self, name: str) -> None:
        """Record as an input an artifact that the server has."""
        self._with_artifact(name, lambda: self.run.use_artifact(name))

    def log_artifact(
        self, name: str, kind: str, files: Mapping[str, Path], metadata: Mapping[str, Any],
        aliases: Sequence[str],
    ) -> None:  # fmt: skip
        """Upload an artifact of files by name inside it; they must not change until `finish`."""

        def send() -> None:
            self.run.log_artifact(make_artifact(name, kind, files, metadata), aliases=list(aliases))

        self._with_artifact(name, send)

    def mark_preempting(self) -> None:
        """Mark the run as stopped from outside and to be continued."""
        self._safely(lambda: self.run.mark_preempting())  # noqa: PLW0108 (there may be no run)

    def images(
        self,
        grids: Mapping[str, np.ndarray],
        captions: Mapping[str, str],
        step: int,
        images_seen: int,
    ) -> None:
        """Log uint8 pictures [H, W, 3] as previews/NAME; `images_seen` is the x axis."""

        def send() -> None:
            pictures = {
                f"previews/{name}": import_wandb().Image(
                    grid, caption=captions[name], file_type="jpg"
                )
                for name, grid in grids.items()
            }
            self.run.log(pictures | {"images": images_seen}, step=step)

        self._safely(send)

    def alert(self, title: str, text: str, step: int) -> None:
        """Send a warning through W&B's alerts."""
        self._safely(lambda: self.run.alert(title[:120], f"{text} (step {step})", level="WARN"))

    def finish(self, exit_code: int = 0, seconds: float | None = None) -> None:
        """Close the run; wait `seconds` at most for the server, by default as long as it needs."""
        if self.run is None:
            return
        folder = Path(self.run.dir).parent
        limit = (UPLOAD_TIMEOUT if self.uploads else FINISH_TIMEOUT) + INIT_TIMEOUT
        run = self.run

        def close() -> None:
            with suppress(BaseException):  # of the library; what was logged is on the disk
                run.finish(exit_code=exit_code)

        limit = limit if seconds is None else seconds
        done = self._calls.call(close) and self._calls.close(limit)
        if self._failed or not done:
            print(
                "note: W&B has not received everything; upload the rest: "
                f"wandb sync {shlex.quote(str(folder))}"
            )
        if not done:
            exit_without_waiting()  # the library would wait when the interpreter exits
        self.run = None

    def _with_artifact(self, name: str, action: Callable[[], object]) -> None:
        """Run an action on an artifact, if artifacts are uploaded; print a note where it fails.

        The library waits for the server without a limit, so a thread waits for FINISH_TIMEOUT
        instead.
        """
        if self.run is None or not self.uploads:
            return
        problems = ["the server did not answer in time"]

        def attempt() -> None:
            try:
                action()
                problems.clear()
            except Exception as error:
                problems[:] = [one_line(error, 120)]

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(FINISH_TIMEOUT)
        if problems:
            print(f"note: {name} is not in W&B ({problems[0]})")

    def _safely(self, action: Callable[[], object]) -> None:
        """Run an action in the background if there is a W&B run.

        Where it fails, or where the library does not return from earlier actions, print a note and
        stop logging.
        """
        if self.run is None or self._failed:
            return

        def attempt() -> None:
            try:
                if not self._failed:
                    action()
            except BaseException as error:  # in a thread: also what would end a process
                self._stop_logging(one_line(error, 120))

        if not self._calls.call(attempt):
            self._stop_logging("its process does not answer")

    def _stop_logging(self, reason: str) -> None:
        self._failed = True
        print(f"note: W&B stopped logging ({reason}); metrics.jsonl goes on")


def import_wandb() -> Any:
    """Import W&B's library, which takes a second: only where it is used."""
    import wandb

    return wandb


def import_record_types() -> Any:
    """Return the module with the record classes of an offline run's file."""
    from wandb.proto import wandb_internal_pb2

    return wandb_internal_pb2


def make_artifact(
    name: str, kind: str, files: Mapping[str, Path], metadata: Mapping[str, Any]
) -> Any:
    """Return an artifact that refers to the files themselves, without a copy in W&B's cache."""
    artifact = import_wandb().Artifact(clean_name(name), type=kind, metadata=dict(metadata))
    for inside, path in files.items():
        artifact.add_file(str(path), name=inside, policy="immutable", skip_cache=True)
    return artifact


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Let the library stage tables in `folder`, not at home, unless WANDB_DATA_DIR is set."""
    name = "WANDB_DATA_DIR"
    configured = os.environ.get(name)
    os.environ[name] = configured or str(folder)
    try:
        yield
    finally:
        if configured is None:
            del os.environ[name]


def with_sections(losses: Mapping[str, float]) -> dict[str, float]:
    """Return values by names with a section, by which W&B groups charts: `loss/` by default."""
    return {name if "/" in name else f"loss/{name}": value for name, value in losses.items()}


def _offline_folders(files: str) -> str:
    """Return what `wandb sync` must be given for the offline parts of a run: one, or a pattern.

    `files` is the folder of the newest part's files. A run that was continued has several parts.
    """
    newest = Path(files).parent
    parts = list(newest.parent.glob(f"offline-run-*-{newest.name.rpartition('-')[2]}"))
    if len(parts) < 2:
        return shlex.quote(str(newest))
    return f"{shlex.quote(str(newest.parent))}/offline-run-*"  # the shell replaces the pattern
