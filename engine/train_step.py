"""Take the training steps of any method, update by update, and hold the state that they change."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError, one_line
from data.tensors import normalize
from engine.checkpoint import state_dict_mismatch
from engine.checkpoint_content import optimizer_mismatch
from engine.ema import ExponentialMovingAverage
from engine.hardware.cuda_graphs import CudaGraphStep
from engine.optimizer import adam, set_learning_rate, step_if_finite
from engine.runtime import Runtime, seed_step
from engine.schedule import Schedule
from engine.train_config import TrainingConfig
from models.method import Method, Update, networks_of_group

GRAD_NORM_PREFIX = "gradient_norm/"  # tells gradient norms from losses in a step's values
ROLLBACK_SEED_STRIDE = 1_000_003  # added to the seed at each roll-back, so that other steps follow


class TrainStep:
    """The training step of any method: for each update clear gradients, backward, average, step.

    The optimizer of a group whose losses or gradients are not finite takes no step. The device
    decides that by itself, and the host does not wait for it; `training/failure_monitor.py` reads the
    values later.
    """

    def __init__(
        self, method: Method, config: TrainingConfig, schedule: Schedule, runtime: Runtime
    ) -> None:
        """Move `method` to the device and make its optimizers, at the start of the schedule.

        UserError where batch_size, microbatches, or an option of a group does not fit the method or
        the processes.
        """
        self.method = method
        self.config = config
        self.schedule = schedule
        self.runtime = runtime
        self.local_batch_size = self._local_batch_size()
        self.step = 0
        self.rollbacks = 0  # to a checkpoint, each followed by another seed
        self.optimizer_groups = method.optimizer_groups()
        self._check_group_options()
        networks = [
            network
            for group in self.optimizer_groups.values()
            for network in networks_of_group(group)
        ]
        runtime.prepare(method, networks)
        betas = (config.adam_betas[0], config.adam_betas[1])
        self.optimizers = {
            name: adam(
                network, config.learning_rate, betas, runtime.uses_cuda_graph, config.weight_decay
            )
            for name, network in self.optimizer_groups.items()
        }
        self.cuda_graph_step: CudaGraphStep | None = None
        if runtime.uses_cuda_graph:
            if config.microbatches > 1:
                raise UserError(
                    "runtime.cuda_graph captures a batch as a whole; set microbatches=1",
                    option="microbatches",
                )
            self.cuda_graph_step = CudaGraphStep(self._run_updates, runtime.device)
        translators = method.translators()
        self.ema = (
            ExponentialMovingAverage(translators, config.ema_half_life)
            if config.ema_half_life
            else None
        )
        saved = method.state_dict().keys()  # other buffers are constants
        self.running_statistics = [
            x for name, x in method.named_buffers() if name in saved and x.is_floating_point()
        ]
        self.frozen_until: dict[str, int] = {}  # group -> the first step that updates it
        self.grad_norms: dict[str, Tensor] = {}  # group -> gradient norm in the last step

    @property
    def seed(self) -> int:
        """The seed of the steps that follow; another one after each roll-back."""
        return self.config.seed + ROLLBACK_SEED_STRIDE * self.rollbacks

    @property
    def finished(self) -> bool:
        """Whether the schedule has no further steps."""
        return self.step >= self.schedule.steps

    def translators(self) -> nn.ModuleDict:
        """Return the trained translators: their EMA, or the networks themselves without an EMA."""
        return self.ema.ema if self.ema else self.method.translators()

    def restart_ema(self) -> None:
        """Set the EMA to the current weights."""
        if self.ema:
            self.ema.ema.load_state_dict(self.method.translators().state_dict())

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step number `step` (from 0), before lr_multipliers."""
        return self.config.learning_rate * self.schedule.factor(step)

    def take_step(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take one step on a uint8 batch; return every loss by name, still on the device.

        `grad_norms` then holds the L2 norm of each group's gradients, on the device too.
        """
        seed_step(self.seed, self.step, self.runtime.distributed.rank)
        for name, optimizer in self.optimizers.items():
            rate = self.learning_rate(self.step) * self.config.lr_multipliers.get(name, 1.0)
            set_learning_rate(optimizer, rate)
        if self.cuda_graph_step:
            self.method.prepare_cuda_graph_inputs(self.local_batch_size, self.step)
            values = self.cuda_graph_step(
                (self.method.cuda_graph_key(self.step), *self._skipped_groups()), batch
            )
        else:
            values = self._run_updates(batch)
        self.step += 1
        if self.ema:
            self.ema.update(self.step * self.config.batch_size, self.config.batch_size)
        self.grad_norms = {
            name.removeprefix(GRAD_NORM_PREFIX): x
            for name, x in values.items()
            if name.startswith(GRAD_NORM_PREFIX)
        }
        return {name: x for name, x in values.items() if not name.startswith(GRAD_NORM_PREFIX)}

    def _run_updates(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run every update of a step; nothing in here reads a value back from the device."""
        values: dict[str, Tensor] = {}
        before = [buffer.clone() for buffer in self.running_statistics]
        microbatch_updates = [
            self.method.updates(part, self.step) for part in self._microbatches(batch)
        ]
        skipped = self._skipped_groups()
        while update := self._next_update(microbatch_updates[0]):
            stepped = [name for name in update.groups if name not in skipped]
            parameters = [p for name in stepped for p in self.optimizer_groups[name].parameters()]
            for parameter in parameters:
                parameter.grad = None
            sums: dict[str, Tensor] = {}
            for number in range(len(microbatch_updates)):
                # All microbatches run the same update before a weight changes: gradients add up.
                current = update if number == 0 else self._next_update(microbatch_updates[number])
                assert current is not None and current.groups == update.groups
                if parameters:
                    (current.total() / len(microbatch_updates)).backward(inputs=parameters)
                for name, loss in current.losses.items():
                    sums[name] = sums.get(name, 0.0) + loss.detach() / len(microbatch_updates)
            sums = self.runtime.average_gradients(parameters, sums)
            total = torch.stack([loss.float() for loss in sums.values()]).sum()
            for name in stepped:
                limit = self.config.clip_grad_norm.get(name, math.inf)
                norm = step_if_finite(self.optimizers[name], total, limit)
                earlier = values.get(GRAD_NORM_PREFIX + name)  # of the group's previous update
                values[GRAD_NORM_PREFIX + name] = (
                    norm if earlier is None else torch.hypot(earlier, norm)
                )
            values |= sums
        self.runtime.average_statistics(self.running_statistics)
        self._restore_nonfinite_statistics(
            before, torch.stack([x.float() for x in values.values()])
        )
        return values

    @torch.no_grad()
    def _restore_nonfinite_statistics(self, before: list[Tensor], values: Tensor) -> None:
        """Restore the running statistics `before` the step where it, or they, are not finite."""
        finite = values.isfinite().all()
        for buffer, old in zip(self.running_statistics, before, strict=True):
            buffer.copy_(torch.where(finite & buffer.isfinite().all(), buffer, old))

    def _skipped_groups(self) -> list[str]:
        """Return the optimizer groups that this step does not update."""
        frozen = [name for name, until in self.frozen_until.items() if self.step < until]
        return frozen + [name for name, n in self.config.update_every.items() if self.step % n]

    def _local_batch_size(self) -> int:
        """Return how many images of each batch this process computes."""
        batch, count = self.config.batch_size, self.runtime.distributed.world_size
        if batch % count:
            raise UserError(
                f"batch_size={batch} is shared by {count} processes; make it a multiple of {count}",
                option="batch_size",
            )
        if batch // count % self.config.microbatches:
            raise UserError(
                f"microbatches={self.config.microbatches} must divide each process's share of "
                f"batch_size, {batch // count}",
                option="microbatches",
            )
        return batch // count

    def _check_group_options(self) -> None:
        """Raise UserError where an option names an unknown group or distorts a lazy term."""
        for option in ("lr_multipliers", "update_every", "clip_grad_norm"):
            for name in getattr(self.config, option).keys() - self.optimizer_groups.keys():
                raise UserError(
                    f"{option}.{name}: this method's optimizer groups are "
                    f"{', '.join(self.optimizer_groups) or 'none'}",
                    option=f"{option}.{name}",
                )
        for name, (option, period) in self.method.lazy_terms().items():
            every = self.config.update_every.get(name, 1)
            # With a common factor, more of the group's updates have the term than it is scaled for.
            factor = math.gcd(every, period)
            if factor > 1:
                raise UserError(
                    f"update_every.{name}={every} and method.{option}={period} share the factor "
                    f"{factor}, so the lazy term would weigh {factor} times too much; "
                    "choose coprime numbers, or set one of them to 1",
                    option=f"update_every.{name}",
                )

    def _next_update(self, updates: Iterator[Update]) -> Update | None:
        """Return the next update, computed in the run's precision, or None after the last one."""
        with self.runtime.autocast():
            return next(updates, None)

    def _microbatches(self, batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the batch on the device in [-1, 1], divided into microbatches."""
        images = {domain: normalize(self.runtime.to_device(x)) for domain, x in batch.items()}
        parts = {domain: x.chunk(self.config.microbatches) for domain, x in images.items()}
        count = len(next(iter(parts.values())))
        return [{domain: pieces[i] for domain, pieces in parts.items()} for i in range(count)]

    def state(self) -> dict[str, Any]:
        """Return all that steps depend on; randomness, rate and image order follow from `step`."""
        return {
            "step": self.step,
            "rollbacks": self.rollbacks,
            "frozen_until": self.frozen_until,
            "method": self.method.state_dict(),
            "optimizers": {
                name: optimizer.state_dict() for name, optimizer in self.optimizers.items()
            },
            "ema": self.ema.ema.state_dict() if self.ema else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; UserError with the names of what does not fit."""
        try:
            problem = state_dict_mismatch(self.method.state_dict(), state["method"])
            if self.ema and not problem:
                problem = state_dict_mismatch(self.ema.ema.state_dict(), state["ema"])
            if problem:
                raise UserError(f"the checkpoint does not fit these networks: {problem}")
            self.method.load_state_dict(state["method"])
            for name, optimizer in self.optimizers.items():
                # Moments come from the checkpoint, settings from the options.
                settings = optimizer.state_dict()["param_groups"]
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                if problem := optimizer_mismatch(state["optimizers"][name], parameters):
                    raise UserError(f"the checkpoint does not fit the optimizer {name}: {problem}")
                optimizer.load_state_dict({**state["optimizers"][name], "param_groups": settings})
            if self.ema:
                self.ema.ema.load_state_dict(state["ema"])
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise UserError(
                f"the checkpoint does not fit these networks ({one_line(error, 150)})"
            ) from None
        self.step = state["step"]
        self.rollbacks = state.get("rollbacks", 0)
        if self.cuda_graph_step:  # a captured graph reads the tensors from before
            self.cuda_graph_step = CudaGraphStep(self._run_updates, self.runtime.device)
        self.frozen_until = dict(state.get("frozen_until", {}))
