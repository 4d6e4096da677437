"""The table of contents: every option of every command, each defined beside the code that reads it."""

from dataclasses import dataclass, field
from typing import Literal

from data.folders import DataConfig
from engine.logger import LogConfig
from engine.runtime import RuntimeConfig
from engine.trainer import TrainingConfig
from errors import UserError
from models.method import Method

Which = Literal["latest", "best"]
Weights = Literal["average", "live"]


@dataclass(frozen=True)
class TrainOptions(TrainingConfig):
    """Everything train.py can be told; a run is these and its data."""

    run: str = ""  # folder of the run; runs/PRESET where not given
    method: Method.Config = field(default_factory=Method.Config)
    data: DataConfig = field(default_factory=DataConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    log: LogConfig = field(default_factory=LogConfig)


@dataclass(frozen=True)
class TestOptions:
    """Everything test.py can be told."""

    checkpoint: Which = "latest"  # which of the run's checkpoints
    weights: Weights = "average"  # the moving average where there is one, or the last
    report_images: int = 24  # pictures of each direction in report.html; 0 shows all
    data: DataConfig = field(default_factory=DataConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    __test__ = False  # not a test class

    def __post_init__(self) -> None:
        if self.report_images < 0:
            raise UserError(f"report_images must be 0 or more, got {self.report_images}")


@dataclass(frozen=True)
class TranslateOptions:
    """Everything translate.py can be told."""

    direction: str = ""  # such as photo_to_monet; needed where the run has several
    checkpoint: Which = "latest"  # which of the run's checkpoints
    weights: Weights = "average"  # the moving average where there is one, or the last
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
