"""The loop around the steps: batches in; logs, scores, previews and checkpoints out; faults survived."""

import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from common.command import print_line
from common.errors import Interrupted, RunError, UserError, one_line
from data.loader import worker_died
from data.samples import UnpairedSamples
from engine.checkpoint import Checkpoints
from engine.distributed.rank_state import check_ranks_agree, rank_state, reshard, state_checksum
from engine.hardware.cuda_graphs import prefetch_to_device
from engine.hardware.memory import is_out_of_memory, out_of_memory
from engine.previews import draw_previews, translate_all
from engine.tracking.wandb_run import LogConfig, WandbRun, with_sections
from engine.train_step import TrainStep
from engine.validation import validation_scores
from training.metrics_log import MetricsLog, read_rows
from training.monitor import NonFiniteError, TrainingMonitor
from training.progress_bar import ProgressBar
from training.signals import StopSignals

ECHO = 5.0  # seconds in which torchrun passes on a signal that has reached its processes already

Images = Mapping[str, Sequence[Tensor]]
"""Domain -> fixed images, each [1, C, H, W] in [-1, 1]."""


class Loop:
    """A run in its folder: continued from its last checkpoint, trained to the end of its schedule."""

    def __init__(
        self,
        train_step: TrainStep,
        samples: UnpairedSamples,
        preview_images: Images,
        validation_images: Images,
        run: Path,
    ) -> None:
        """Take the folder `run` and go on where its last checkpoint left off.

        `previewed` and `scored` hold the images of each domain for previews and for ranking checkpoints.
        """
        self.train_step = train_step
        self.samples = samples
        self.preview_images = preview_images
        self.update_best = validation_images
        self.run = run
        self.seconds = 0.0
        self.options_text = ""  # of the checkpoint that it goes on from, as YAML
        self.distributed = train_step.runtime.distributed
        self.checkpoints = Checkpoints(run / "checkpoints", train_step.config.keep_checkpoints)
        if self.begun:
            self._restore()

    @property
    def begun(self) -> bool:
        """Say whether there is a checkpoint."""
        return self.distributed.call_on_main(self.checkpoints.exist)

    @property
    def finished(self) -> bool:
        """Say whether there is nothing left to do."""
        return self.train_step.step >= self.train_step.schedule.steps

    def fit(self, log: LogConfig, workers: int, wandb: WandbRun) -> None:
        """Train to the end of the schedule.

        Interrupted is raised after a signal, with everything saved; RunError where the run cannot go
        on, with the checkpoints as they were: exit code 3 when a loss or gradient is not finite.
        """
        several = self.distributed.is_distributed
        monitor = TrainingMonitor(
            self.train_step.config, self.train_step.runtime.device, same_step_on_all_ranks=several
        )
        self._check_ranks_agree()
        for row in read_rows(self.run / "metrics.jsonl", self.train_step.step):
            wandb.update_best({name: row[name] for name in row if name.startswith("score/")})
        try:
            if monitor.rolls_back and not self.begun:
                self._save(None)  # somewhere to go back to
            # One for all: a signal may come just before a return.
            with StopSignals(ECHO if several else 0.0) as stop, self.distributed.exit_when_hung():
                while not self.finished:
                    try:
                        self._fit(log, workers, wandb, monitor, stop)
                    except NonFiniteError as event:
                        self._roll_back(event, monitor, wandb)
        except (RuntimeError, ConnectionError, EOFError) as error:
            if workers and worker_died(error):
                # The library raises at every child's end, wherever the process is by then.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                raise RunError(
                    "a process that reads images was killed (out of memory, most often); "
                    "the same command continues, data.workers=0 reads in the training process"
                ) from None
            if is_out_of_memory(error):
                raise out_of_memory(error) from None
            if self.distributed.is_peer_failure(error):
                raise self.distributed.peer_failure_exit(error) from None
            raise
        except MemoryError as error:
            raise out_of_memory(error) from None
        except OSError as error:
            raise RunError(f"{error.filename or self.run}: {error.strerror or error}") from None

    def _fit(
        self,
        log: LogConfig,
        workers: int,
        wandb: WandbRun,
        monitor: TrainingMonitor,
        stop: StopSignals,
    ) -> None:
        train_step, config = self.train_step, self.train_step.config
        record = self.run / "metrics.jsonl"
        rows = MetricsLog(record, train_step.step) if self.distributed.is_main_process else None
        progress = ProgressBar(
            self.run.name, train_step.schedule.steps, train_step.step, config.batch_size
        )
        began = time.monotonic() - self.seconds
        try:
            for batch, waited in self._timed_batches(workers):
                started = time.monotonic()
                losses = train_step.take_step(batch)
                monitor.push(train_step.step, losses, train_step.grad_norms)
                step, done = train_step.step, self.finished
                progress.step(step, waited + time.monotonic() - started, waited=waited)
                self.seconds = time.monotonic() - began

                evaluated = config.validate_every or config.checkpoint_every
                due = done or step % evaluated == 0
                scores = (
                    self.distributed.call_on_main(lambda: self._validate(monitor)) if due else {}
                )
                logging = done or step == 1 or step % log.every == 0
                if logging or scores:
                    values = monitor.values() if logging else {}
                    if rows is not None:
                        self._log(values, scores, rows, progress, wandb)
                for title, advice in monitor.warnings():
                    progress.note(f"warning: {title}; {advice}")
                    wandb.alert(title, advice, step)

                score = scores.get(f"score/{config.validation_metrics[0]}")
                ending = done or bool(self._stop_signal(stop))
                saving = ending or step % config.checkpoint_every == 0
                if saving or self._is_best(score):
                    monitor.drain()  # never over what is not finite
                    path = self._save_or_warn(score, ending, progress, wandb)
                    if path and not done and (asked := self._stop_signal(stop)):
                        wandb.mark_preempting()
                        progress.close()
                        progress.note(f"stopped and saved in {path}; the same command continues")
                        raise Interrupted(128 + asked)
                if done or (log.previews_every and step % log.previews_every == 0):
                    with self._or_warn("a preview", progress):
                        self._preview(wandb)
        except NonFiniteError:
            progress.close()
            raise
        progress.close()

    def _stop_signal(self, stop: StopSignals) -> int:
        """Return the signal that asked any of the processes to stop, or 0."""
        return self.distributed.all_reduce_max(stop.requested or 0)

    def _is_best(self, score: float | None) -> bool:
        """Say whether a score is the best so far; None is not."""
        return score is not None and self.distributed.call_on_main(
            lambda: self.checkpoints.is_best(score)
        )

    def _timed_batches(self, workers: int) -> Iterator[tuple[dict[str, Tensor], float]]:
        """Yield each batch with the seconds it was waited for."""
        train_step = self.train_step
        pin_memory = train_step.runtime.device.type == "cuda"
        self.samples.reseed(train_step.seed)
        stream = self.samples.batches(
            train_step.config.batch_size, train_step.step, train_step.schedule.steps, workers, pin_memory,
            (self.distributed.rank, self.distributed.world_size),
        )  # fmt: skip
        if pin_memory:
            stream = prefetch_to_device(stream, train_step.runtime.device)
        started = time.monotonic()
        for batch in stream:
            yield batch, time.monotonic() - started
            started = time.monotonic()

    def _save(self, score: float | None) -> Path:
        """Write all that the run is; only the first process writes, the others hand in what they remember."""
        state, step = self.train_step.state(), self.train_step.step
        rank_states = self.distributed.gather_object(rank_state(state["method"]))
        self._check_ranks_agree()
        if not self.distributed.is_main_process:
            return self.checkpoints.folder
        options = (self.run / "options.yaml").read_text(encoding="utf-8")
        state |= {"seconds": self.seconds, "options": options}
        if self.distributed.is_distributed:
            state["rank_states"] = rank_states
        return self.checkpoints.save(state, step, score)

    def _check_ranks_agree(self) -> None:
        """Check that all processes have the same weights, moments and averages."""
        if self.distributed.is_distributed:
            check_ranks_agree(
                self.distributed.gather_object(state_checksum(self.train_step.state()))
            )

    def _save_or_warn(
        self, score: float | None, ending: bool, progress: ProgressBar, wandb: WandbRun
    ) -> Path | None:
        """Save; where the disk is full and the options say so, warn and go on, unless it is the end."""
        try:
            return self._save(score)
        except RunError as error:
            if ending or self.train_step.config.on_save_error == "raise":
                raise
            progress.note(f"warning: {error}; training goes on without this checkpoint")
            wandb.alert("a checkpoint could not be saved", str(error), self.train_step.step)
            return None

    @contextmanager
    def _or_warn(self, what: str, progress: ProgressBar) -> Iterator[None]:
        """Let what the disk does not take pass with a warning, where the options say so."""
        try:
            yield
        except (OSError, RunError) as error:
            if self.train_step.config.on_save_error == "raise":
                raise
            progress.note(f"warning: {what} could not be written: {one_line(error, 100)}")

    def _restore(self) -> None:
        """Continue from the last checkpoint, which the first process reads for all."""
        state: dict[str, Any] = (
            self.checkpoints.load_latest() if self.distributed.is_main_process else {}
        )
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
            raise UserError(f"{self.run}: {error}") from None
        self.seconds = state["seconds"]
        self.options_text = state["options"]

    def _roll_back(self, event: NonFiniteError, monitor: TrainingMonitor, wandb: WandbRun) -> None:
        """Continue from the last checkpoint with another seed, or stop where that was done too often."""
        rollbacks = self.train_step.rollbacks + 1
        if not monitor.rolls_back or rollbacks > self.train_step.config.nonfinite_limit:
            wandb.alert(event.what, "the run has stopped", event.step)
            kept = "; earlier checkpoints are intact" if self.begun else ""
            raise RunError(f"{event}{kept}", exit_code=3)
        self._restore()
        monitor.reset()
        self.train_step.rollbacks = rollbacks
        advice = f"back at step {self.train_step.step}, with another seed ({rollbacks})"
        print_line(f"warning: {event.what}; {advice}")
        wandb.alert(event.what, advice, event.step)

    def _log(
        self, values: dict[str, float], scores: dict[str, float], rows: MetricsLog,
        progress: ProgressBar, wandb: WandbRun,
    ) -> None:  # fmt: skip
        train_step = self.train_step
        rate = train_step.learning_rate(train_step.step - 1)
        images, speed = train_step.step * train_step.config.batch_size, progress.images_per_second()
        # Nothing of the clock but `seconds`: a repeated run has the same lines.
        row = {
            "step": train_step.step, "images": images,
            "epoch": round(train_step.schedule.epoch(train_step.step), 6),
            "seconds": round(self.seconds, 3), "learning_rate": rate,
        }  # fmt: skip
        with self._or_warn("a line of metrics.jsonl", progress):
            rows.write(row | values | scores)
        if values:
            progress.log(values, rate)
        if scores:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
            progress.note(f"step {train_step.step}: {shown}")
        rates = {
            f"lr/{n}": rate * train_step.config.lr_multipliers.get(n, 1.0)
            for n in train_step.optimizer_groups
        }
        wandb.log(
            {"images": images, "epoch": row["epoch"], "perf/images_per_s": speed,
             "perf/waiting_for_data": progress.waiting_share()}
            | rates | progress.milliseconds() | train_step.runtime.memory() | with_sections(values) | scores,
            train_step.step,
        )  # fmt: skip
        wandb.update_best(scores)
        if self.finished:
            final = {**with_sections(values), **scores}
            wandb.update_summary({f"final/{name}": value for name, value in final.items()})
        if progress.should_warn_of_starvation():
            progress.note(
                f"note: {progress.waiting_share():.0%} of the time is spent waiting for images; "
                "raise data.workers, or set data.disk_cache=FOLDER"
            )

    def _validate(self, monitor: TrainingMonitor) -> dict[str, float]:
        """Return score/NAME of the translators as they are; the first one ranks checkpoints."""
        if not any(self.update_best.values()):
            return {}
        train_step = self.train_step
        rows = translate_all(train_step.translators().eval(), self.update_best, train_step.runtime)
        train_step.method.train()
        reals = {
            name: self.update_best[str(t.target)] for name, t in train_step.translators().items()
        }
        monitor.check_images(train_step.step, rows, reals)
        found = validation_scores(rows, reals, train_step.config.validation_metrics)
        return {f"score/{name}": value for name, value in found.items() if math.isfinite(value)}

    def _preview(self, wandb: WandbRun) -> None:
        train_step = self.train_step
        if not any(self.preview_images.values()):
            return
        translators, folder = train_step.translators().eval(), self.run / "previews"
        try:
            grids = draw_previews(
                translators, self.preview_images, train_step.runtime, folder, train_step.step
            )
        finally:
            train_step.method.train()
        captions = {
            name: f"{name} at step {train_step.step}: real, fake, restored" for name in grids
        }
        seen = train_step.step * train_step.config.batch_size
        wandb.images(grids, captions, train_step.step, seen)
