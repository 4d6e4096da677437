"""The training loop: batches in; logs, validation, previews and checkpoints out; faults survived."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from common.command import print_line
from common.errors import Interrupted, RunError
from data.loader import worker_died
from data.samples import UnpairedSamples
from engine.hardware.cuda_graphs import prefetch_to_device
from engine.hardware.memory import is_out_of_memory, out_of_memory
from engine.previews import translate_all
from engine.tracking.wandb_run import LogConfig
from engine.train_step import TrainStep
from engine.validation import validation_scores
from training.checkpointing import RunCheckpoints
from training.monitor import NonFiniteError, TrainingMonitor
from training.reporter import Images, Reporter
from training.signals import StopSignals

ECHO = 5.0  # seconds in which torchrun passes on a signal that has reached its processes already


class Loop:
    """Train a run to the end of its schedule."""

    def __init__(
        self, train_step: TrainStep, samples: UnpairedSamples, checkpoints: RunCheckpoints,
        reporter: Reporter, validation_images: Images, log: LogConfig, workers: int,
    ) -> None:  # fmt: skip
        """`validation_images` score the translators and rank checkpoints; `workers` processes read images."""
        self.train_step = train_step
        self.samples = samples
        self.checkpoints = checkpoints
        self.reporter = reporter
        self.validation_images = validation_images
        self.log = log
        self.workers = workers
        self.distributed = train_step.runtime.distributed
        self.monitor = TrainingMonitor(
            train_step.config, train_step.runtime.device,
            same_step_on_all_ranks=self.distributed.is_distributed,
            discriminator_losses=[
                loss.discriminator_term for loss in train_step.method.gan_losses()
            ],
        )  # fmt: skip

    def fit(self) -> None:
        """Train to the end of the schedule.

        Interrupted is raised after a signal, with everything saved; RunError where the run cannot go on,
        with the checkpoints as they were: exit code 3 when a loss or gradient is NaN or infinite.
        """
        with self._errors_in_one_line():
            self.checkpoints.check_ranks_agree()
            if self.monitor.rolls_back and not self.checkpoints.has_checkpoint():
                self.checkpoints.save(None)  # something to roll back to
            # One handler for all sessions: a signal may come just before a roll-back.
            echo = ECHO if self.distributed.is_distributed else 0.0
            with StopSignals(echo) as stop, self.distributed.exit_when_hung():
                while not self.train_step.finished:
                    try:
                        self._train(stop)
                    except NonFiniteError as event:
                        self._roll_back(event)

    def _train(self, stop: StopSignals) -> None:
        """Take steps until the end of the schedule, a signal, or a NaN."""
        train_step, config, reporter = self.train_step, self.train_step.config, self.reporter
        reporter.start()
        began = time.monotonic() - self.checkpoints.seconds
        try:
            for batch, waited in self._timed_batches():
                started = time.monotonic()
                losses = train_step.take_step(batch)
                self.monitor.push(train_step.step, losses, train_step.grad_norms)
                step, done = train_step.step, train_step.finished
                reporter.progress.step(step, waited + time.monotonic() - started, waited=waited)
                self.checkpoints.seconds = time.monotonic() - began

                validating = done or step % (config.validate_every or config.checkpoint_every) == 0
                scores = self.distributed.call_on_main(self._validate) if validating else {}
                logging = done or step == 1 or step % self.log.every == 0
                if logging or scores:
                    values = self.monitor.values() if logging else {}
                    reporter.log(values, scores, self.checkpoints.seconds)
                for title, advice in self.monitor.warnings():
                    reporter.warn(title, advice)

                score = scores.get(f"score/{config.validation_metrics[0]}")
                ending = done or bool(self._stop_signal(stop))
                saving = ending or step % config.checkpoint_every == 0
                if saving or self.checkpoints.is_best(score):
                    self.monitor.drain()  # a NaN is never saved
                    path = self._save_or_warn(score, ending)
                    if path and not done and (number := self._stop_signal(stop)):
                        self._stop(path, number)
                if done or (self.log.previews_every and step % self.log.previews_every == 0):
                    reporter.draw_previews()
        except NonFiniteError:
            reporter.progress.close()
            raise
        reporter.progress.close()

    def _stop(self, path: Path, number: int) -> None:
        """Leave after signal `number`, saved in `path`."""
        self.reporter.wandb.mark_preempting()
        self.reporter.progress.close()
        self.reporter.progress.note(f"stopped and saved in {path}; the same command continues")
        raise Interrupted(128 + number)

    def _stop_signal(self, stop: StopSignals) -> int:
        """Return the signal that asked any of the ranks to stop, or 0."""
        return self.distributed.all_reduce_max(stop.requested or 0)

    def _timed_batches(self) -> Iterator[tuple[dict[str, Tensor], float]]:
        """Yield each batch with the seconds that the loop waited for it."""
        train_step = self.train_step
        pin_memory = train_step.runtime.device.type == "cuda"
        self.samples.reseed(train_step.seed)
        batches = self.samples.batches(
            train_step.config.batch_size, train_step.step, train_step.schedule.steps, self.workers,
            pin_memory, (self.distributed.rank, self.distributed.world_size),
        )  # fmt: skip
        if pin_memory:
            batches = prefetch_to_device(batches, train_step.runtime.device)
        started = time.monotonic()
        for batch in batches:
            yield batch, time.monotonic() - started
            started = time.monotonic()

    def _save_or_warn(self, score: float | None, ending: bool) -> Path | None:
        """Save; with on_save_error=warn a failure is a warning, unless the run ends here."""
        try:
            return self.checkpoints.save(score)
        except RunError as error:
            if ending or self.train_step.config.on_save_error == "raise":
                raise
            self.reporter.warn(
                "a checkpoint could not be saved",
                f"{error}; training goes on without this checkpoint",
            )
            return None

    def _roll_back(self, event: NonFiniteError) -> None:
        """Continue from the last checkpoint with another seed; RunError after too many roll-backs."""
        rollbacks = self.train_step.rollbacks + 1
        if not self.monitor.rolls_back or rollbacks > self.train_step.config.nonfinite_limit:
            self.reporter.wandb.alert(event.what, "the run has stopped", event.step)
            intact = "; earlier checkpoints are intact" if self.checkpoints.has_checkpoint() else ""
            raise RunError(f"{event}{intact}", exit_code=3)
        self.checkpoints.restore()
        self.monitor.reset()
        self.train_step.rollbacks = rollbacks
        advice = f"back at step {self.train_step.step}, with another seed ({rollbacks})"
        print_line(f"warning: {event.what}; {advice}")
        self.reporter.wandb.alert(event.what, advice, event.step)

    def _validate(self) -> dict[str, float]:
        """Return score/METRIC of the translators on the validation images; the first ranks checkpoints."""
        if not any(self.validation_images.values()):
            return {}
        train_step, translators = self.train_step, self.train_step.translators()
        rows = translate_all(translators.eval(), self.validation_images, train_step.runtime)
        train_step.method.train()
        reals = {name: self.validation_images[str(t.target)] for name, t in translators.items()}
        self.monitor.check_images(train_step.step, rows, reals)
        found = validation_scores(rows, reals, train_step.config.validation_metrics)
        return {f"score/{name}": value for name, value in found.items() if math.isfinite(value)}

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        """Turn the ends of a run that are not bugs into one line: memory, disk, readers, other ranks."""
        try:
            yield
        except (RuntimeError, ConnectionError, EOFError) as error:
            if self.workers and worker_died(error):
                # torch raises at the end of every reader, wherever this process is by then.
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
            folder = self.checkpoints.folder
            raise RunError(f"{error.filename or folder}: {error.strerror or error}") from None
