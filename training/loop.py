"""The training loop: take steps, log, validate, draw previews, save, and handle failures."""

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from common.errors import Interrupted, RunError
from common.run_main import print_line
from data.loader import worker_died
from data.samples import UnpairedSamples
from engine.hardware.cuda_graphs import prefetch_to_device
from engine.hardware.memory import is_out_of_memory, out_of_memory
from engine.loss_names import shown_name
from engine.previews import translate_all
from engine.tracking.wandb_config import LogConfig
from engine.train_step import TrainStep
from engine.validation import logged_name, validation_scores
from training.failure_monitor import NonFiniteError, TrainingMonitor
from training.reporter import Images, Reporter
from training.save_and_restore import RunCheckpoints
from training.signals import StopRequested, StopSignals

# Seconds in which a signal that a process has received may be repeated: by torchrun, and by programs
# such as `timeout` that signal their child and then its group.
TORCHRUN_ECHO, ECHO = 5.0, 0.5
# Seconds that one of several processes still waits for its images after a signal: the others save
# only with it. A single process ends such a wait at once.
LAST_WAIT = 4.0


class Loop:
    """Train a run to the end of its schedule."""

    def __init__(
        self, train_step: TrainStep, samples: UnpairedSamples, checkpoints: RunCheckpoints,
        reporter: Reporter, validation_images: Images, log: LogConfig, workers: int,
        domains: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Take the parts of a run; `workers` processes read its images.

        `validation_images` are those that the validation scores are computed on. Losses are
        reported under the names of `domains`; without them as the method names them.
        """
        self.train_step = train_step
        self.samples = samples
        self.checkpoints = checkpoints
        self.reporter = reporter
        self.validation_images = validation_images
        self.log = log
        self.workers = workers
        self.domains = domains
        self.distributed = train_step.runtime.distributed
        self.monitor = TrainingMonitor(
            train_step.config, train_step.runtime.device,
            same_step_on_all_ranks=self.distributed.is_distributed,
            discriminator_losses=[
                shown_name(loss.discriminator_term, domains)
                for loss in train_step.method.gan_losses()
            ],
        )  # fmt: skip

    def fit(self) -> None:
        """Train to the end of the schedule.

        Interrupted: a signal came, and the run is saved. RunError: the run cannot continue, and its
        checkpoints are intact; the exit code is 3 if a loss or gradient is NaN or infinite.
        """
        with self._expected_failures():
            self.checkpoints.check_ranks_agree()
            if self.monitor.rolls_back and not self.checkpoints.has_checkpoint():
                self.checkpoints.save(None)  # something to roll back to
            # One handler for the whole run: a signal may come just before a roll-back.
            echo = TORCHRUN_ECHO if self.distributed.is_distributed else ECHO
            with StopSignals(echo) as stop, self.distributed.exit_when_hung():
                while not self.train_step.finished:
                    try:
                        self._train(stop)
                    except NonFiniteError as failure:
                        self._roll_back(failure)

    def _train(self, stop: StopSignals) -> None:
        """Take steps until the end of the schedule, a signal, or a NaN."""
        train_step, config, reporter = self.train_step, self.train_step.config, self.reporter
        reporter.start()
        began = time.monotonic() - self.checkpoints.seconds
        try:
            for batch, waited in self._timed_batches(stop):
                started = time.monotonic()
                losses = train_step.take_step(batch)
                losses = {shown_name(name, self.domains): x for name, x in losses.items()}
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

                score = scores.get(self._score_name(config.validation_metrics[0]))
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
        except StopRequested:
            self._stop_without_images(stop)
        reporter.progress.close()

    def _stop_without_images(self, stop: StopSignals) -> None:
        """Save and raise Interrupted; RunError in one of several processes, which saves nothing."""
        number = stop.requested or 0
        if self.distributed.is_distributed:
            raise RunError(
                "a signal came while this process waited for its images, and they did not arrive; "
                "checkpoints are intact, the same command continues",
                exit_code=128 + number,
            )
        self.monitor.drain()
        self._stop(self.checkpoints.save(None), number)

    def _stop(self, path: Path, number: int) -> None:
        """Print where the run is saved, and raise Interrupted for signal `number`."""
        self.reporter.wandb.mark_preempting()
        self.reporter.progress.close()
        self.reporter.progress.note(f"stopped and saved in {path}; the same command continues")
        raise Interrupted(128 + number)

    def _stop_signal(self, stop: StopSignals) -> int:
        """Return the number of the signal that asked any rank to stop, or 0."""
        return self.distributed.all_reduce_max(stop.requested or 0)

    def _timed_batches(self, stop: StopSignals) -> Iterator[tuple[dict[str, Tensor], float]]:
        """Yield each batch and the seconds that the loop waited for it.

        StopRequested: a signal came during such a wait.
        """
        train_step = self.train_step
        pin_memory = train_step.runtime.device.type == "cuda"
        self.samples.reseed(train_step.seed)
        batches = self.samples.batches(
            train_step.config.batch_size, train_step.step, train_step.schedule.steps, self.workers,
            pin_memory, (self.distributed.rank, self.distributed.world_size),
        )  # fmt: skip
        if pin_memory:
            batches = prefetch_to_device(batches, train_step.runtime.device)
        patience = LAST_WAIT if self.distributed.is_distributed else 0.0
        while True:
            started = time.monotonic()
            with stop.end_wait(patience):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch, time.monotonic() - started
            if train_step.finished:  # nothing to wait for
                return

    def _save_or_warn(self, score: float | None, ending: bool) -> Path | None:
        """Save a checkpoint; with on_save_error=warn only the last one raises RunError."""
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

    def _roll_back(self, failure: NonFiniteError) -> None:
        """Continue from the last checkpoint with another seed; RunError after too many times."""
        rollbacks = self.train_step.rollbacks + 1
        if not self.monitor.rolls_back or rollbacks > self.train_step.config.nonfinite_limit:
            self.reporter.wandb.alert(failure.what, "the run has stopped", failure.step)
            intact = "; earlier checkpoints are intact" if self.checkpoints.has_checkpoint() else ""
            raise RunError(f"{failure}{intact}", exit_code=3)
        self.checkpoints.restore()
        self.monitor.reset()
        self.train_step.rollbacks = rollbacks
        advice = f"back at step {self.train_step.step}, with another seed ({rollbacks})"
        print_line(f"warning: {failure.what}; {advice}")
        self.reporter.wandb.alert(failure.what, advice, failure.step)

    def _validate(self) -> dict[str, float]:
        """Return score/METRIC -> value on the validation images; the first ranks checkpoints."""
        if not any(self.validation_images.values()):
            return {}
        train_step, translators = self.train_step, self.train_step.translators()
        rows = translate_all(translators.eval(), self.validation_images, train_step.runtime)
        train_step.method.train()
        reals = {name: self.validation_images[str(t.target)] for name, t in translators.items()}
        self.monitor.check_images(train_step.step, rows, reals)
        scores = validation_scores(rows, reals, train_step.config.validation_metrics)
        return {
            self._score_name(name): value for name, value in scores.items() if math.isfinite(value)
        }

    def _score_name(self, metric: str) -> str:
        return f"score/{logged_name(metric, self.checkpoints.score_definition)}"

    @contextmanager
    def _expected_failures(self) -> Iterator[None]:
        """Raise RunError or PeerExit for failures of memory, disk, workers and other ranks."""
        try:
            yield
        except (RuntimeError, ConnectionError, EOFError) as error:
            if self.workers and worker_died(error):
                # torch's handler would raise again when another worker ends, wherever we are then.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                raise RunError(
                    "a process that reads images was killed (out of memory, most often); "
                    "repeat the command to continue, data.workers=0 reads in the training process"
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
