"""Define every option of every command; groups are defined next to the code that reads them."""

from dataclasses import dataclass, field
from typing import Literal

from common.errors import UserError
from data.config import DataConfig
from engine.runtime import RuntimeConfig
from engine.schedule import parse_budget
from engine.tracking.wandb_config import LogConfig, WandbMode
from engine.train_config import TrainingConfig
from models.method import Method

CheckpointChoice = Literal["latest", "best"]


@dataclass(frozen=True)
class TrainOptions(TrainingConfig):
    """Options of train.py; with the data they define a run."""

    run: str = ""  # folder of the run; default runs/PRESET
    seeds: list[int] = field(default_factory=list)  # one run for each seed, in RUN-seedN: [0,1,2]
    init_from: str = ""  # initial weights: a run, a checkpoint, or .pth files of the CycleGAN repo
    init_strict: bool = True  # false: load what fits of them, leave the rest as initialized
    init_freeze_steps: int = 200  # steps for which loaded networks stay frozen while new ones train
    budget: str = ""  # training time, such as 6h or 90min: sets duration so that it ends in time
    summary: bool = False  # only print the networks: shapes, parameters, operations
    plan: bool = False  # only measure a few steps: time, memory, faster settings
    method: Method.Config = field(default_factory=Method.Config)
    data: DataConfig = field(default_factory=DataConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_freeze_steps < 0:
            raise UserError(
                f"init_freeze_steps must be 0 or more, got {self.init_freeze_steps}",
                option="init_freeze_steps",
            )
        if len({*self.seeds}) < len(self.seeds) or not all(0 <= s < 2**63 for s in self.seeds):
            raise UserError(
                f"seeds must be different whole numbers, 0 or more, got {self.seeds}",
                option="seeds",
            )
        if self.budget:
            parse_budget(self.budget)


Split = Literal["auto", "test", "validation"]


@dataclass(frozen=True)
class TestOptions:
    """Options of test.py."""

    checkpoint: CheckpointChoice = "latest"  # the latest, or the best by validation_metrics
    use_ema: bool = True  # the EMA of the weights where there is one; false: the last weights
    report_images: int = 24  # images of each direction in report.html; 0: all
    split: Split = "auto"  # test, or validation: what data.validation held out; auto: test if named
    direction: str = ""  # evaluate this one alone; empty: every direction that has images
    checks: bool = True  # also compute set distances, faithfulness, image defects, copies, leaks
    wandb: WandbMode = "auto"  # log the metrics of every image to W&B; auto: as in training
    inception: str = ""  # weights for FID and KID; empty: look in torch's cache
    data: DataConfig = field(default_factory=DataConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    __test__ = False  # not a test class

    def __post_init__(self) -> None:
        if self.report_images < 0:
            raise UserError(
                f"report_images must be 0 or more, got {self.report_images}",
                option="report_images",
            )


@dataclass(frozen=True)
class StyleOptions:
    """The style of the translations, for methods with styles."""

    first: str = ""  # a reference image, or a seed to sample a style; empty: the mean style
    second: str = ""  # another one, to interpolate to or to mix with
    interpolation: float = 0.5  # 0 is the first style, 1 the second
    mixing_blocks: int = 0  # the first N blocks in style.first, the rest in style.second
    truncation: float = 1.0  # 0 is the mean style, 1 the chosen one

    def __post_init__(self) -> None:
        if self.mixing_blocks < 0:
            raise UserError(
                f"style.mixing_blocks must be 0 or more, got {self.mixing_blocks}",
                option="style.mixing_blocks",
            )
        if self.mixing_blocks and not self.second:
            raise UserError(
                "style.mixing_blocks mixes two styles; also set style.second",
                option="style.mixing_blocks",
            )


@dataclass(frozen=True)
class TranslateOptions:
    """Options of translate.py."""

    direction: str = ""  # such as photo_to_monet; needed where the run has several
    tile: str = "auto"  # large pictures in strips: auto (when memory is short), off, or N pixels
    strength: float = 1.0  # 0 is the input, 1 the translation; more exaggerates
    keep_color: bool = False  # take only the luminance from the translation
    mask: str = ""  # a picture, or a folder of them: white where the translation is visible
    max_megapixels: float = 0  # of the largest picture to open; 0: what the free memory allows
    video: bool = False  # the folder holds frames of a video: reduces flicker between them
    style: StyleOptions = field(default_factory=StyleOptions)
    checkpoint: CheckpointChoice = "latest"  # the latest, or the best by validation_metrics
    use_ema: bool = True  # the EMA of the weights where there is one; false: the last weights
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        if self.tile not in ("auto", "off") and not (self.tile.isdigit() and int(self.tile) >= 16):
            raise UserError(
                f"tile must be auto, off, or at least 16 pixels, got '{self.tile}'", option="tile"
            )
        if self.max_megapixels < 0:
            raise UserError(
                f"max_megapixels must be at least 0, got {self.max_megapixels}",
                option="max_megapixels",
            )
        if not 0 <= self.strength <= 4:
            raise UserError(f"strength must be 0 to 4, got {self.strength}", option="strength")


Format = Literal["safetensors", "onnx", "fp16", "int8", "pt2"]


def _default_formats() -> list[Format]:
    return ["safetensors", "onnx", "pt2"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of export.py."""

    direction: str = ""  # such as photo_to_monet; empty: every direction of the run
    formats: list[Format] = field(default_factory=_default_formats)  # weights and graphs to write
    out: str = ""  # folder for one bundle a direction; default RUN/export
    checkpoint: CheckpointChoice = "latest"  # the latest, or the best by validation_metrics
    use_ema: bool = True  # the EMA of the weights where there is one; false: the last weights
    artifacts: bool = False  # also upload the bundle to W&B, where online
    style: StyleOptions = field(default_factory=StyleOptions)
    license: str = "unknown"  # licence of the weights, for the model card, such as mit

    def __post_init__(self) -> None:
        if not self.formats:
            raise UserError(
                "formats is empty; name some, such as formats=[safetensors,onnx]", option="formats"
            )
