"""The table of contents: every option of every command, each defined beside the code that reads it."""

from dataclasses import dataclass, field
from typing import Literal

from common.errors import UserError
from data.config import DataConfig
from engine.config import TrainingConfig
from engine.runtime import RuntimeConfig
from engine.schedule import parse_budget
from engine.tracking.wandb_run import LogConfig, WandbMode
from models.method import Method

Which = Literal["latest", "best"]
Weights = Literal["average", "live"]


@dataclass(frozen=True)
class TrainOptions(TrainingConfig):
    """Everything train.py can be told; a run is these and its data."""

    run: str = ""  # folder of the run; runs/PRESET where not given
    seeds: list[int] = field(default_factory=list)  # a run with each in turn, in RUN-seedN; [0,1,2]
    init_from: str = ""  # weights to start from: a run, a checkpoint, or the reference's .pth files
    init_partial: bool = False  # take of them what fits, and leave the rest fresh
    init_warm_up: int = 200  # steps that loaded players wait for those that are fresh
    budget: str = ""  # such as 6h or 90min: lays the schedule so that it ends in time
    summary: bool = False  # print every network: shapes, parameters, work and memory, then stop
    plan: bool = False  # measure a few steps and say what the run would take, then stop
    method: Method.Config = field(default_factory=Method.Config)
    data: DataConfig = field(default_factory=DataConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_warm_up < 0:
            raise UserError(f"init_warm_up must be 0 or more, got {self.init_warm_up}")
        if len({*self.seeds}) < len(self.seeds) or not all(0 <= s < 2**63 for s in self.seeds):
            raise UserError(f"seeds must be different numbers, 0 or more, got {self.seeds}")
        if self.budget:
            parse_budget(self.budget)


@dataclass(frozen=True)
class TestOptions:
    """Everything test.py can be told."""

    checkpoint: Which = "latest"  # which of the run's checkpoints
    weights: Weights = "average"  # the moving average where there is one, or the last
    report_images: int = 24  # pictures of each direction in report.html; 0 shows all
    checks: bool = True  # also set distances, faithfulness, artefacts, copied and leaked images
    wandb: WandbMode = "auto"  # the figures of every image to W&B; auto: as the run was told
    inception: str = ""  # file with the weights that FID and KID need; empty looks in torch's cache
    data: DataConfig = field(default_factory=DataConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    __test__ = False  # not a test class

    def __post_init__(self) -> None:
        if self.report_images < 0:
            raise UserError(f"report_images must be 0 or more, got {self.report_images}")


@dataclass(frozen=True)
class StyleOptions:
    """How the result should look, where a method lets one choose: pictures of the target, or numbers."""

    first: str = ""  # a picture whose style is taken, or a number that draws one; empty: the usual
    second: str = ""  # another, to go to or to mix with
    share: float = 0.5  # of the second: 0 is the first style, 1 the second
    coarse: int = 0  # blocks that take the first style while the finer ones take the second
    truncation: float = 1.0  # 0 is the usual style, 1 the one chosen; between is less extreme

    def __post_init__(self) -> None:
        if self.coarse < 0:
            raise UserError(f"style.coarse must be 0 or more, got {self.coarse}")
        if self.coarse and not self.second:
            raise UserError("style.coarse mixes two styles; name style.second too")


@dataclass(frozen=True)
class TranslateOptions:
    """Everything translate.py can be told."""

    direction: str = ""  # such as photo_to_monet; needed where the run has several
    tile: str = "auto"  # large pictures in strips: auto where memory is short, off, or pixels
    strength: float = 1.0  # 0 is the input, 1 the translation; more exaggerates
    keep_colour: bool = False  # take only the luminance from the translation
    mask: str = ""  # a picture, or a folder of them: white where the translation shows
    video: bool = False  # the pictures of a folder are frames: statistics smoothed over time
    style: StyleOptions = field(default_factory=StyleOptions)
    checkpoint: Which = "latest"  # which of the run's checkpoints
    weights: Weights = "average"  # the moving average where there is one, or the last
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        if self.tile not in ("auto", "off") and not (self.tile.isdigit() and int(self.tile) >= 16):
            raise UserError(f"tile must be auto, off, or at least 16 pixels, got '{self.tile}'")
        if not 0 <= self.strength <= 4:
            raise UserError(f"strength must be 0 to 4, got {self.strength}")


Format = Literal["safetensors", "onnx", "fp16", "int8", "pt2"]


@dataclass(frozen=True)
class ExportOptions:
    """Everything export.py can be told."""

    direction: str = ""  # such as photo_to_monet; every direction of the run where not given
    formats: list[Format] = field(default_factory=lambda: ["safetensors", "onnx", "pt2"])  # files
    out: str = ""  # folder that gets a bundle folder for each direction; RUN/export where not given
    checkpoint: Which = "latest"  # which of the run's checkpoints
    weights: Weights = "average"  # the moving average where there is one, or the last
    artifacts: bool = False  # also upload the bundle to W&B, where online
    style: StyleOptions = field(default_factory=StyleOptions)
    license: str = "unknown"  # for the model card: the licence of the weights, such as mit

    def __post_init__(self) -> None:
        if not self.formats:
            raise UserError("formats is empty; name some, such as formats=[safetensors,onnx]")
