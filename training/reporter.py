"""Report training progress: metrics.jsonl, progress bar, Weights & Biases, previews, warnings."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from common.errors import RunError, one_line
from engine.previews import draw_previews
from engine.tracking.wandb_run import WandbRun, with_sections
from engine.train_step import TrainStep
from training.metrics_log import MetricsLog, read_rows
from training.progress_bar import ProgressBar

Images = Mapping[str, Sequence[Tensor]]
"""Domain -> fixed images, each [1, C, H, W] in [-1, 1]."""


class Reporter:
    """Report a run's values; only the main process has a metrics file and an enabled W&B run."""

    def __init__(
        self, folder: Path, train_step: TrainStep, wandb: WandbRun, preview_images: Images
    ) -> None:
        self.folder = folder
        self.train_step = train_step
        self.wandb = wandb
        self.preview_images = preview_images
        self.progress = self._progress_bar()
        self._metrics: MetricsLog | None = None
        for row in read_rows(folder / "metrics.jsonl", train_step.step):
            wandb.update_best({name: row[name] for name in row if name.startswith("score/")})

    def start(self) -> None:
        """Start at the current step, also after a roll-back; later rows of the file are removed."""
        self.progress = self._progress_bar()
        if self.train_step.runtime.distributed.is_main_process:
            self._metrics = MetricsLog(self.folder / "metrics.jsonl", self.train_step.step)

    def _progress_bar(self) -> ProgressBar:
        step = self.train_step
        total, batch_size = step.schedule.steps, step.config.batch_size
        return ProgressBar(self.folder.name, total, step.step, batch_size)

    def log(self, values: dict[str, float], scores: dict[str, float], seconds: float) -> None:
        """Log the current step: its losses and gradient norms (`values`) and validation scores."""
        if self._metrics is None:
            return
        train_step, progress, wandb = self.train_step, self.progress, self.wandb
        rate = train_step.learning_rate(train_step.step - 1)
        images = train_step.step * train_step.config.batch_size
        # Only `seconds` depends on the clock, so that a repeated run writes the same other values.
        row = {
            "step": train_step.step, "images": images,
            "epoch": round(train_step.schedule.epoch(train_step.step), 6),
            "seconds": round(seconds, 3), "learning_rate": rate,
        }  # fmt: skip
        with self.warn_if_not_written("a line of metrics.jsonl"):
            self._metrics.write(row | values | scores)
        if values:
            progress.log(values, rate)
        if scores:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
            progress.note(f"step {train_step.step}: {shown}")
        rates = {
            f"lr/{name}": rate * train_step.config.lr_multipliers.get(name, 1.0)
            for name in train_step.optimizer_groups
        }
        performance = {
            "perf/images_per_s": progress.images_per_second(),
            "perf/waiting_for_data": progress.waiting_share(),
            **progress.milliseconds(), **train_step.runtime.memory(),
        }  # fmt: skip
        position = {"images": images, "epoch": row["epoch"]}
        wandb.log(position | performance | rates | with_sections(values) | scores, train_step.step)
        wandb.update_best(scores)
        if train_step.finished:
            final = {**with_sections(values), **scores}
            wandb.update_summary({f"final/{name}": value for name, value in final.items()})
        if progress.should_warn_of_starvation():
            progress.note(
                f"note: {progress.waiting_share():.0%} of the time is spent waiting for images; "
                "raise data.workers, or set data.disk_cache=FOLDER"
            )

    def warn(self, title: str, advice: str) -> None:
        """Print a warning and send it as a W&B alert."""
        self.progress.note(f"warning: {title}; {advice}")
        self.wandb.alert(title, advice, self.train_step.step)

    def draw_previews(self) -> None:
        """Write the preview images of the current step, and log them to W&B."""
        if not any(self.preview_images.values()):
            return
        train_step = self.train_step
        with self.warn_if_not_written("a preview"):
            translators = train_step.translators().eval()
            try:
                grids = draw_previews(
                    translators, self.preview_images, train_step.runtime,
                    self.folder / "previews", train_step.step,
                )  # fmt: skip
            finally:
                train_step.method.train()
            captions = {
                name: f"{name} at step {train_step.step}: real, fake, restored" for name in grids
            }
            images = train_step.step * train_step.config.batch_size
            self.wandb.images(grids, captions, train_step.step, images)

    @contextmanager
    def warn_if_not_written(self, what: str) -> Iterator[None]:
        """Print a warning if a write fails and on_save_error=warn."""
        try:
            yield
        except (OSError, RunError) as error:
            if self.train_step.config.on_save_error == "raise":
                raise
            self.progress.note(f"warning: {what} could not be written: {one_line(error, 100)}")
