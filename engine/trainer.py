"""Train any method by its turns, and continue exactly where a run was left."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.loading import UnpairedSamples, normalise, worker_died
from engine.cuda import RecordedSteps, uploaded
from engine.logger import MetricsFile, WandbLogger, sections
from engine.optim import MovingAverage, adam, set_learning_rate
from engine.preview import draw_previews
from engine.progress import Progress
from engine.runtime import Runtime, seed_step
from engine.schedule import Schedule
from engine.scoring import scores_of
from engine.state import Checkpoints, misfit
from engine.stopping import StopSignals
from engine.training import TrainingConfig
from errors import Interrupted, RunError, UserError, one_line
from models.method import Method, Turn


def _networks_of(player: nn.Module) -> list[nn.Module]:
    """Return the networks a player consists of: itself, or the members of its list."""
    return list(player) if isinstance(player, nn.ModuleList) else [player]


Images = Mapping[str, Sequence[Tensor]]
"""Domain -> fixed images, each [1, C, H, W] in [-1, 1]."""


class Trainer:
    """One loop for every method: for each turn clear, backward, average, step."""

    def __init__(
        self, method: Method, samples: UnpairedSamples | None, previewed: Images, scored: Images,
        config: TrainingConfig, schedule: Schedule, runtime: Runtime, run: Path,
    ) -> None:  # fmt: skip
        """Prepare to train `method` on `samples` in the folder `run`.

        Without `samples` single steps can be taken on batches from elsewhere, but not `fit`.
        `previewed` and `scored` hold the images of each domain for previews and for ranking checkpoints.
        """
        self.method = method
        self.samples = samples
        self.previewed = previewed
        self.scored = scored
        self.config = config
        self.schedule = schedule
        self.runtime = runtime
        self.run = run
        self.step = 0
        self.seconds = 0.0
        self.players = method.players()
        networks = [network for player in self.players.values() for network in _networks_of(player)]
        runtime.prepare(method, networks)
        betas = (config.adam_betas[0], config.adam_betas[1])
        self.optimizers = {
            name: adam(network, config.learning_rate, betas, runtime.records)
            for name, network in self.players.items()
        }
        self.recorded: RecordedSteps | None = None
        if runtime.records:
            if config.accumulate > 1:
                raise UserError("runtime.cuda_graph records a batch in one part; set accumulate=1")
            self.recorded = RecordedSteps(self._moves, runtime.device)
        translators = method.translators()
        self.average = (
            MovingAverage(translators, config.ema_half_life) if config.ema_half_life else None
        )
        self.checkpoints = Checkpoints(run / "checkpoints", config.keep_checkpoints)

    def translators(self) -> nn.ModuleDict:
        """Return what the run is for: the averaged translators, or the live ones without averaging."""
        return self.average.average if self.average else self.method.translators()

    def take_step(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Play one step on a uint8 batch; return every loss by name, still on the device."""
        seed_step(self.config.seed, self.step)
        rate = self.config.learning_rate * self.schedule.factor(self.step)
        for optimizer in self.optimizers.values():
            set_learning_rate(optimizer, rate)
        if self.recorded:
            self.method.decide(self.config.batch_size)
            losses = self.recorded(self.method.variant(self.step), batch)
        else:
            losses = self._moves(batch)
        self.step += 1
        if self.average:
            self.average.update(self.step * self.config.batch_size, self.config.batch_size)
        return losses

    def _moves(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Play every turn of a step; nothing in here reads a value back from the device."""
        losses: dict[str, Tensor] = {}
        plays = [self.method.turns(part, self.step) for part in self._parts(batch)]
        while turn := self._play(plays[0]):
            parameters = [p for name in turn.players for p in self.players[name].parameters()]
            for parameter in parameters:
                parameter.grad = None
            for number in range(len(plays)):
                # The parts of a batch play the same turn before anybody moves: gradients add up.
                current = turn if number == 0 else self._play(plays[number])
                assert current is not None and current.players == turn.players
                (current.total() / len(plays)).backward(inputs=parameters)
                for name, loss in current.losses.items():
                    losses[name] = losses.get(name, 0.0) + loss.detach() / len(plays)
            self.runtime.average_gradients(parameters)
            for name in turn.players:
                self.optimizers[name].step()
        return losses

    def _play(self, turns: Iterator[Turn]) -> Turn | None:
        """Return the next turn of a play, computed in the run's precision, or None at its end."""
        with self.runtime.autocast():
            return next(turns, None)

    def _parts(self, batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the batch, normalised and on the device, in as many parts as it is computed in."""
        images = {domain: normalise(self.runtime.receive(x)) for domain, x in batch.items()}
        parts = {domain: x.chunk(self.config.accumulate) for domain, x in images.items()}
        count = len(next(iter(parts.values())))
        return [{domain: pieces[i] for domain, pieces in parts.items()} for i in range(count)]

    def fit(self, log_every: int, previews_every: int, workers: int, wandb: WandbLogger) -> None:
        """Train to the end of the schedule.

        Interrupted is raised after a signal, with everything saved; RunError (exit code 3) when a
        loss is not finite, with the checkpoints as they were.
        """
        try:
            self._fit(log_every, previews_every, workers, wandb)
        except (RuntimeError, ConnectionError, EOFError) as error:
            if workers and worker_died(error):
                raise RunError(
                    "a process that reads images was killed (out of memory, most often); "
                    "the same command continues, data.workers=0 reads in the training process"
                ) from None
            if "memory" in str(error).lower() and "alloc" in str(error).lower():
                raise RunError(
                    "out of memory; lower batch_size, or compute it in parts with accumulate, lower "
                    "data.crop_size, or use runtime.checkpoint_activations=true"
                ) from None
            raise
        except OSError as error:
            raise RunError(f"{error.filename or self.run}: {error.strerror or error}") from None

    def _fit(self, log_every: int, previews_every: int, workers: int, wandb: WandbLogger) -> None:
        rows = MetricsFile(self.run / "metrics.jsonl", self.step)
        progress = Progress(self.run.name, self.schedule.steps, self.step, self.config.batch_size)
        began = time.monotonic() - self.seconds
        with StopSignals() as stop:
            for batch, seconds in self._timed_batches(workers):
                started = time.monotonic()
                losses = self.take_step(batch)
                done = self.step == self.schedule.steps
                logging = done or self.step == 1 or self.step % log_every == 0
                if (
                    logging or self.runtime.device.type == "cpu"
                ):  # elsewhere this waits for the device
                    self._checked(losses)
                progress.step(self.step, seconds + time.monotonic() - started, waited=seconds)
                self.seconds = time.monotonic() - began
                evaluated = self.config.evaluate_every or self.config.checkpoint_every
                scores = self._scores() if done or self.step % evaluated == 0 else {}
                if logging or scores:
                    self._log(
                        self._checked(losses) if logging else {}, scores, rows, progress, wandb
                    )
                score = next(iter(scores.values()), None)
                saving = done or self.step % self.config.checkpoint_every == 0
                if saving or self.checkpoints.improved_by(score) or stop.requested is not None:
                    self._checked(losses)
                    path = self.checkpoints.save(self.state(), self.step, score)
                    if stop.requested is not None and not done:
                        progress.close()
                        progress.note(f"stopped and saved in {path}; the same command continues")
                        raise Interrupted(128 + stop.requested)
                if done or (previews_every and self.step % previews_every == 0):
                    self._preview(wandb)
        progress.close()

    def state(self) -> dict[str, Any]:
        """Return everything a resumed run needs: randomness, rate and order follow from the step."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "method": self.method.state_dict(),
            "optimizers": {
                name: optimizer.state_dict() for name, optimizer in self.optimizers.items()
            },
            "average": self.average.average.state_dict() if self.average else None,
            "options": (self.run / "options.yaml").read_text(encoding="utf-8"),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint's state; UserError names what in it does not fit."""
        try:
            problem = misfit(self.method.state_dict(), state["method"])
            if self.average and not problem:
                problem = misfit(self.average.average.state_dict(), state["average"])
            if problem:
                raise UserError(
                    f"{self.run}: its checkpoint does not fit these networks: {problem}"
                )
            self.method.load_state_dict(state["method"])
            for name, optimizer in self.optimizers.items():
                # Moments are the checkpoint's, settings are the options'.
                settings = optimizer.state_dict()["param_groups"]
                optimizer.load_state_dict({**state["optimizers"][name], "param_groups": settings})
            if self.average:
                self.average.average.load_state_dict(state["average"])
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.run}: its checkpoint does not fit these networks ({one_line(error, 100)})"
            ) from None
        self.step = state["step"]
        self.seconds = state["seconds"]

    def _timed_batches(self, workers: int) -> Iterator[tuple[dict[str, Tensor], float]]:
        """Yield each batch with the seconds it was waited for."""
        assert self.samples is not None
        pinned = self.runtime.device.type == "cuda"
        stream = self.samples.batches(
            self.config.batch_size, self.step, self.schedule.steps, workers, pinned
        )
        if pinned:
            stream = uploaded(stream, self.runtime.device)
        started = time.monotonic()
        for batch in stream:
            yield batch, time.monotonic() - started
            started = time.monotonic()

    def _checked(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        values = dict(
            zip(losses, torch.stack([x.float() for x in losses.values()]).tolist(), strict=True)
        )
        for name, value in values.items():
            if not math.isfinite(value):
                raise RunError(
                    f"the loss {name} became {value} at step {self.step}; earlier checkpoints are intact: "
                    "lower learning_rate, or use runtime.precision=fp32",
                    exit_code=3,
                )
        return values

    def _scores(self) -> dict[str, float]:
        """Return score/NAME of the translators as they are; the first one ranks checkpoints."""
        found = scores_of(self.translators(), self.scored, self.config.scores, self.runtime)
        self.method.train()
        return {f"score/{name}": value for name, value in found.items()}

    def _log(
        self, losses: dict[str, float], scores: dict[str, float], rows: MetricsFile,
        progress: Progress, wandb: WandbLogger,
    ) -> None:  # fmt: skip
        rate = self.config.learning_rate * self.schedule.factor(self.step - 1)
        images, speed = self.step * self.config.batch_size, progress.images_per_second()
        # Nothing of the clock but `seconds`: a repeated run has the same lines.
        row = {
            "step": self.step, "images": images, "epoch": round(self.schedule.epoch(self.step), 6),
            "seconds": round(self.seconds, 3), "learning_rate": rate,
        }  # fmt: skip
        rows.write(row | losses | scores)
        if losses:
            progress.log(losses, rate)
        if scores:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
            progress.note(f"step {self.step}: {shown}")
        wandb.log(
            {"images": images, "epoch": row["epoch"], "lr": rate, "perf/images_per_s": speed,
             "perf/waiting_for_data": progress.waiting_share()} | sections(losses) | scores,
            self.step,
        )  # fmt: skip
        if progress.starved():
            progress.note(
                f"note: {progress.waiting_share():.0%} of the time is spent waiting for images; "
                "raise data.workers, or set data.cache=FOLDER"
            )

    def _preview(self, wandb: WandbLogger) -> None:
        if not any(self.previewed.values()):
            return
        translators, folder = self.translators().eval(), self.run / "previews"
        grids = draw_previews(translators, self.previewed, self.runtime, folder, self.step)
        self.method.train()
        captions = {name: f"{name} at step {self.step}: real, fake, restored" for name in grids}
        wandb.images(grids, captions, self.step, self.step * self.config.batch_size)
