"""The loop around the steps: batches in; logs, scores, previews and checkpoints out; faults survived."""

import math
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from data.loading import UnpairedSamples, worker_died
from engine.cuda import uploaded
from engine.logger import LogConfig, MetricsFile, WandbLogger, sections
from engine.preview import draw_previews, translate_all
from engine.progress import Progress
from engine.scoring import scores_of
from engine.state import Checkpoints
from engine.stopping import StopSignals
from engine.trainer import Trainer
from engine.watchdog import NotFinite, Watchdog
from errors import Interrupted, RunError, UserError, say

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
        self.checkpoints = Checkpoints(run / "checkpoints", trainer.config.keep_checkpoints)
        if self.checkpoints.exist():
            self._restore()

    @property
    def finished(self) -> bool:
        """Say whether there is nothing left to do."""
        return self.trainer.step >= self.trainer.schedule.steps

    def fit(self, log: LogConfig, workers: int, wandb: WandbLogger) -> None:
        """Train to the end of the schedule.

        Interrupted is raised after a signal, with everything saved; RunError where the run cannot go
        on, with the checkpoints as they were: exit code 3 when a loss or gradient is not finite.
        """
        watchdog = Watchdog(self.trainer.config, self.trainer.runtime.device)
        try:
            if watchdog.returns and not self.checkpoints.exist():
                self._save(None)  # somewhere to go back to
            with StopSignals() as stop:  # one for all: a signal may come just before a return
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
        rows = MetricsFile(self.run / "metrics.jsonl", trainer.step)
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
                scores = self._scores(watchdog) if done or step % evaluated == 0 else {}
                logging = done or step == 1 or step % log.every == 0
                if logging or scores:
                    values = watchdog.values() if logging else {}
                    self._log(values, scores, rows, progress, wandb)
                for title, advice in watchdog.warnings():
                    progress.note(f"warning: {title}; {advice}")
                    wandb.alert(title, advice, step)

                score = scores.get(f"score/{config.scores[0]}")
                saving = done or step % config.checkpoint_every == 0
                if saving or self.checkpoints.improved_by(score) or stop.requested is not None:
                    watchdog.settle()  # never over what is not finite
                    path = self._save_or_warn(score, progress, wandb)
                    if stop.requested is not None and not done:
                        progress.close()
                        progress.note(f"stopped and saved in {path}; the same command continues")
                        raise Interrupted(128 + stop.requested)
                if done or (log.previews_every and step % log.previews_every == 0):
                    self._preview(wandb)
        except NotFinite:
            progress.close()
            raise
        progress.close()

    def _timed_batches(self, workers: int) -> Iterator[tuple[dict[str, Tensor], float]]:
        """Yield each batch with the seconds it was waited for."""
        trainer = self.trainer
        pinned = trainer.runtime.device.type == "cuda"
        self.samples.reseed(trainer.seed)
        stream = self.samples.batches(
            trainer.config.batch_size, trainer.step, trainer.schedule.steps, workers, pinned
        )
        if pinned:
            stream = uploaded(stream, trainer.runtime.device)
        started = time.monotonic()
        for batch in stream:
            yield batch, time.monotonic() - started
            started = time.monotonic()

    def _save(self, score: float | None) -> Path:
        options = (self.run / "options.yaml").read_text(encoding="utf-8")
        state: dict[str, Any] = {"seconds": self.seconds, "options": options}
        return self.checkpoints.save(self.trainer.state() | state, self.trainer.step, score)

    def _save_or_warn(self, score: float | None, progress: Progress, wandb: WandbLogger) -> Path:
        """Save; where the disk is full and the options say so, warn and go on with what is there."""
        try:
            return self._save(score)
        except RunError as error:
            if self.trainer.config.on_save_error == "raise":
                raise
            progress.note(f"warning: {error}; training goes on without this checkpoint")
            wandb.alert("a checkpoint could not be saved", str(error), self.trainer.step)
            return self.checkpoints.folder

    def _restore(self) -> None:
        state = self.checkpoints.load_latest()
        try:
            self.trainer.restore(state)
        except UserError as error:
            raise UserError(f"{self.run}: {error}") from None
        self.seconds = state["seconds"]

    def _go_back(self, event: NotFinite, watchdog: Watchdog, wandb: WandbLogger) -> None:
        """Continue from the last checkpoint with another seed, or stop where that was done too often."""
        detours = self.trainer.detours + 1
        if not watchdog.returns or detours > self.trainer.config.not_finite_limit:
            raise RunError(str(event), exit_code=3)
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
        rows.write(row | values | scores)
        if values:
            progress.log(values, rate)
        if scores:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
            progress.note(f"step {trainer.step}: {shown}")
        wandb.log(
            {"images": images, "epoch": row["epoch"], "lr": rate, "perf/images_per_s": speed,
             "perf/waiting_for_data": progress.waiting_share()} | sections(values) | scores,
            trainer.step,
        )  # fmt: skip
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
        grids = draw_previews(translators, self.previewed, trainer.runtime, folder, trainer.step)
        trainer.method.train()
        captions = {name: f"{name} at step {trainer.step}: real, fake, restored" for name in grids}
        seen = trainer.step * trainer.config.batch_size
        wandb.images(grids, captions, trainer.step, seen)


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error means that memory ran out, of the device or the machine."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or ("memory" in text and "alloc" in text)


def out_of_memory(error: Exception) -> RunError:
    """Return the line for a run that does not fit, with the size that was asked for where it is known."""
    found = re.search(r"allocate ([\d.]+ ?\w+)", str(error))
    return RunError(
        f"out of memory{f' (asked for {found[1]})' if found else ''}; lower batch_size (or compute it in "
        "parts with accumulate), data.crop_size or method.generator.channels, or set "
        "runtime.precision=bf16 or runtime.checkpoint_activations=true; plan=true measures what fits; "
        "checkpoints are intact"
    )
