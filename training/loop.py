"""The loop around the steps: batches in; logs, scores, previews and checkpoints out; faults survived."""

import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from common.command import say
from common.errors import Interrupted, RunError, UserError, one_line
from data.loader import worker_died
from data.samples import UnpairedSamples
from engine.checkpoint import Checkpoints
from engine.distributed.rank_state import check_equal, dealt, fingerprint, memory_of
from engine.hardware.cuda_graphs import uploaded
from engine.hardware.memory import is_out_of_memory, out_of_memory
from engine.previews import draw_previews, translate_all
from engine.tracking.wandb_run import LogConfig, WandbLogger, sections
from engine.train_step import Trainer
from engine.validation import scores_of
from training.metrics_log import MetricsFile, rows_of
from training.monitor import NotFinite, Watchdog
from training.progress_bar import Progress
from training.signals import StopSignals

ECHO = 5.0  # seconds in which torchrun passes on a signal that has reached its processes already

Images = Mapping[str, Sequence[Tensor]]
"""Domain -> fixed images, each [1, C, H, W] in [-1, 1]."""


class Loop:
    """A run in its folder: continued from its last checkpoint, trained to the end of its schedule."""

    def __init__(
        self,
        trainer: Trainer,
        samples: UnpairedSamples,
        previewed: Images,
        scored: Images,
        run: Path,
    ) -> None:
        """Take the folder `run` and go on where its last checkpoint left off.

        `previewed` and `scored` hold the images of each domain for previews and for ranking checkpoints.
        """
        self.trainer = trainer
        self.samples = samples
        self.previewed = previewed
        self.scored = scored
        self.run = run
        self.seconds = 0.0
        self.options_text = ""  # of the checkpoint that it goes on from, as YAML
        self.processes = trainer.runtime.processes
        self.checkpoints = Checkpoints(run / "checkpoints", trainer.config.keep_checkpoints)
        if self.begun:
            self._restore()

    @property
    def begun(self) -> bool:
        """Say whether there is a checkpoint."""
        return self.processes.told(self.checkpoints.exist)

    @property
    def finished(self) -> bool:
        """Say whether there is nothing left to do."""
        return self.trainer.step >= self.trainer.schedule.steps

    def fit(self, log: LogConfig, workers: int, wandb: WandbLogger) -> None:
        """Train to the end of the schedule.

        Interrupted is raised after a signal, with everything saved; RunError where the run cannot go
        on, with the checkpoints as they were: exit code 3 when a loss or gradient is not finite.
        """
        several = not self.processes.alone
        watchdog = Watchdog(self.trainer.config, self.trainer.runtime.device, in_step=several)
        self._compare()
        for row in rows_of(self.run / "metrics.jsonl", self.trainer.step):
            wandb.scored({name: row[name] for name in row if name.startswith("score/")})
        try:
            if watchdog.returns and not self.begun:
                self._save(None)  # somewhere to go back to
            # One for all: a signal may come just before a return.
            with StopSignals(ECHO if several else 0.0) as stop, self.processes.watched():
                while not self.finished:
                    try:
                        self._fit(log, workers, wandb, watchdog, stop)
                    except NotFinite as event:
                        self._go_back(event, watchdog, wandb)
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
            if self.processes.lost(error):
                raise self.processes.leave(error) from None
            raise
        except MemoryError as error:
            raise out_of_memory(error) from None
        except OSError as error:
            raise RunError(f"{error.filename or self.run}: {error.strerror or error}") from None

    def _fit(
        self,
        log: LogConfig,
        workers: int,
        wandb: WandbLogger,
        watchdog: Watchdog,
        stop: StopSignals,
    ) -> None:
        trainer, config = self.trainer, self.trainer.config
        record = self.run / "metrics.jsonl"
        rows = MetricsFile(record, trainer.step) if self.processes.first else None
        progress = Progress(self.run.name, trainer.schedule.steps, trainer.step, config.batch_size)
        began = time.monotonic() - self.seconds
        try:
            for batch, waited in self._timed_batches(workers):
                started = time.monotonic()
                losses = trainer.take_step(batch)
                watchdog.note(trainer.step, losses, trainer.norms)
                step, done = trainer.step, self.finished
                progress.step(step, waited + time.monotonic() - started, waited=waited)
                self.seconds = time.monotonic() - began

                evaluated = config.evaluate_every or config.checkpoint_every
                due = done or step % evaluated == 0
                scores = self.processes.told(lambda: self._scores(watchdog)) if due else {}
                logging = done or step == 1 or step % log.every == 0
                if logging or scores:
                    values = watchdog.values() if logging else {}
                    if rows is not None:
                        self._log(values, scores, rows, progress, wandb)
                for title, advice in watchdog.warnings():
                    progress.note(f"warning: {title}; {advice}")
                    wandb.alert(title, advice, step)

                score = scores.get(f"score/{config.scores[0]}")
                ending = done or bool(self._asked(stop))
                saving = ending or step % config.checkpoint_every == 0
                if saving or self._improved_by(score):
                    watchdog.settle()  # never over what is not finite
                    path = self._save_or_warn(score, ending, progress, wandb)
                    if path and not done and (asked := self._asked(stop)):
                        wandb.preempting()
                        progress.close()
                        progress.note(f"stopped and saved in {path}; the same command continues")
                        raise Interrupted(128 + asked)
                if done or (log.previews_every and step % log.previews_every == 0):
                    with self._or_warn("a preview", progress):
                        self._preview(wandb)
        except NotFinite:
            progress.close()
            raise
        progress.close()

    def _asked(self, stop: StopSignals) -> int:
        """Return the signal that asked any of the processes to stop, or 0."""
        return self.processes.largest(stop.requested or 0)

    def _improved_by(self, score: float | None) -> bool:
        """Say whether a score is the best so far; None is not."""
        return score is not None and self.processes.told(
            lambda: self.checkpoints.improved_by(score)
        )

    def _timed_batches(self, workers: int) -> Iterator[tuple[dict[str, Tensor], float]]:
        """Yield each batch with the seconds it was waited for."""
        trainer = self.trainer
        pinned = trainer.runtime.device.type == "cuda"
        self.samples.reseed(trainer.seed)
        stream = self.samples.batches(
            trainer.config.batch_size, trainer.step, trainer.schedule.steps, workers, pinned,
            (self.processes.rank, self.processes.count),
        )  # fmt: skip
        if pinned:
            stream = uploaded(stream, trainer.runtime.device)
        started = time.monotonic()
        for batch in stream:
            yield batch, time.monotonic() - started
            started = time.monotonic()

    def _save(self, score: float | None) -> Path:
        """Write all that the run is; only the first process writes, the others hand in what they remember."""
        state, step = self.trainer.state(), self.trainer.step
        memories = self.processes.gathered(memory_of(state["method"]))
        self._compare()
        if not self.processes.first:
            return self.checkpoints.folder
        options = (self.run / "options.yaml").read_text(encoding="utf-8")
        state |= {"seconds": self.seconds, "options": options}
        if not self.processes.alone:
            state["memories"] = memories
        return self.checkpoints.save(state, step, score)

    def _compare(self) -> None:
        """Check that all processes have the same weights, moments and averages."""
        if not self.processes.alone:
            check_equal(self.processes.gathered(fingerprint(self.trainer.state())))

    def _save_or_warn(
        self, score: float | None, ending: bool, progress: Progress, wandb: WandbLogger
    ) -> Path | None:
        """Save; where the disk is full and the options say so, warn and go on, unless it is the end."""
        try:
            return self._save(score)
        except RunError as error:
            if ending or self.trainer.config.on_save_error == "raise":
                raise
            progress.note(f"warning: {error}; training goes on without this checkpoint")
            wandb.alert("a checkpoint could not be saved", str(error), self.trainer.step)
            return None

    @contextmanager
    def _or_warn(self, what: str, progress: Progress) -> Iterator[None]:
        """Let what the disk does not take pass with a warning, where the options say so."""
        try:
            yield
        except (OSError, RunError) as error:
            if self.trainer.config.on_save_error == "raise":
                raise
            progress.note(f"warning: {what} could not be written: {one_line(error, 100)}")

    def _restore(self) -> None:
        """Continue from the last checkpoint, which the first process reads for all."""
        state: dict[str, Any] = self.checkpoints.load_latest() if self.processes.first else {}
        if not self.processes.alone or "memories" in state:
            memories = state.pop("memories", None) or [memory_of(state.get("method", {}))]
            count = self.processes.count
            own = self.processes.handed([dealt(memories, rank, count) for rank in range(count)])
            state = self.processes.told(lambda: state)
            state["method"] = {**state["method"], **own}
        try:
            self.trainer.restore(state)
        except UserError as error:
            raise UserError(f"{self.run}: {error}") from None
        self.seconds = state["seconds"]
        self.options_text = state["options"]

    def _go_back(self, event: NotFinite, watchdog: Watchdog, wandb: WandbLogger) -> None:
        """Continue from the last checkpoint with another seed, or stop where that was done too often."""
        detours = self.trainer.detours + 1
        if not watchdog.returns or detours > self.trainer.config.not_finite_limit:
            wandb.alert(event.what, "the run has stopped", event.step)
            kept = "; earlier checkpoints are intact" if self.begun else ""
            raise RunError(f"{event}{kept}", exit_code=3)
        self._restore()
        watchdog.forget()
        self.trainer.detours = detours
        advice = f"back at step {self.trainer.step}, with another seed ({detours})"
        say(f"warning: {event.what}; {advice}")
        wandb.alert(event.what, advice, event.step)

    def _log(
        self, values: dict[str, float], scores: dict[str, float], rows: MetricsFile,
        progress: Progress, wandb: WandbLogger,
    ) -> None:  # fmt: skip
        trainer = self.trainer
        rate = trainer.learning_rate(trainer.step - 1)
        images, speed = trainer.step * trainer.config.batch_size, progress.images_per_second()
        # Nothing of the clock but `seconds`: a repeated run has the same lines.
        row = {
            "step": trainer.step, "images": images,
            "epoch": round(trainer.schedule.epoch(trainer.step), 6),
            "seconds": round(self.seconds, 3), "learning_rate": rate,
        }  # fmt: skip
        with self._or_warn("a line of metrics.jsonl", progress):
            rows.write(row | values | scores)
        if values:
            progress.log(values, rate)
        if scores:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
            progress.note(f"step {trainer.step}: {shown}")
        rates = {f"lr/{n}": rate * trainer.config.rates.get(n, 1.0) for n in trainer.players}
        wandb.log(
            {"images": images, "epoch": row["epoch"], "perf/images_per_s": speed,
             "perf/waiting_for_data": progress.waiting_share()}
            | rates | progress.milliseconds() | trainer.runtime.memory() | sections(values) | scores,
            trainer.step,
        )  # fmt: skip
        wandb.scored(scores)
        if self.finished:
            final = {**sections(values), **scores}
            wandb.summarise({f"final/{name}": value for name, value in final.items()})
        if progress.starved():
            progress.note(
                f"note: {progress.waiting_share():.0%} of the time is spent waiting for images; "
                "raise data.workers, or set data.cache=FOLDER"
            )

    def _scores(self, watchdog: Watchdog) -> dict[str, float]:
        """Return score/NAME of the translators as they are; the first one ranks checkpoints."""
        if not any(self.scored.values()):
            return {}
        trainer = self.trainer
        rows = translate_all(trainer.translators().eval(), self.scored, trainer.runtime)
        trainer.method.train()
        reals = {name: self.scored[str(t.target)] for name, t in trainer.translators().items()}
        watchdog.look(trainer.step, rows, reals)
        found = scores_of(rows, reals, trainer.config.scores)
        return {f"score/{name}": value for name, value in found.items() if math.isfinite(value)}

    def _preview(self, wandb: WandbLogger) -> None:
        trainer = self.trainer
        if not any(self.previewed.values()):
            return
        translators, folder = trainer.translators().eval(), self.run / "previews"
        try:
            grids = draw_previews(
                translators, self.previewed, trainer.runtime, folder, trainer.step
            )
        finally:
            trainer.method.train()
        captions = {name: f"{name} at step {trainer.step}: real, fake, restored" for name in grids}
        seen = trainer.step * trainer.config.batch_size
        wandb.images(grids, captions, trainer.step, seen)
