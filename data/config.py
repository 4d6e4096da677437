"""Options of the images: where they are, and how they are read, resized, augmented and cached."""

import re
from dataclasses import dataclass, field
from typing import Literal

from common.errors import UserError
from data.groups import TABLE
from data.values.value_range import DTYPES, DomainFormat, parse_range

BadImages = Literal["error", "skip"]
Fit = Literal["stretch", "short_side", "crop"]
Pairs = Literal["auto", "none", "forward", "both"]
MAX_CHANNELS = 4096
ALL_DOMAINS = "all"  # key of data.range and data.dtype for the domains without their own
MAX_MEMORY_CACHE_GB = 100_000
MAX_SIDE = 32_766  # pixels of a side that OpenCV can resize


@dataclass(frozen=True)
class DataConfig:
    """Where the images are, and how they are read, resized, augmented and cached."""

    root: str = ""  # folder with trainA, trainB, testA, testB, or train/<domain>, test/<domain>
    domains: list[str] = field(default_factory=lambda: ["a", "b"])  # names of the domains, in order
    train: dict[str, str] = field(default_factory=dict)  # a folder for each domain, instead of root
    test: dict[str, str] = field(default_factory=dict)  # the same for the held-out images
    channels: list[int] = field(default_factory=lambda: [3])  # 1: grey, 3: RGB; [1,3]: one each
    range: dict[str, str] = field(default_factory=dict)  # black and white: auto, type, [low,high]
    dtype: dict[str, str] = field(default_factory=dict)  # of translations' values: int16, float32
    page: int = 0  # of a TIFF with several pages, from 0; -1: all pages, as channels
    fit: Fit = "stretch"  # stretch: to a square; short_side: keep the aspect; crop: no resize
    load_size: int = 286  # pixels images are resized to before the crop (not with fit=crop)
    crop_size: int = 256  # pixels of the random square crop
    progressive_crops: list[int] = field(default_factory=list)  # growing crops: [64,128,256]
    flip: bool = True  # mirror half of the images left to right
    rotate: float = 0.0  # rotate by up to N degrees, with reflection at the border
    color_jitter: float = 0.0  # vary brightness, contrast and saturation by up to this fraction
    workers: int = 2  # processes that read images; 0 reads in the training process
    pairs: Pairs = "auto"  # equal names in test are ground truth: none, forward, both ways
    memory_cache_gb: float = 2.0  # cache of decoded images in memory, for later passes; 0: none
    disk_cache: str = ""  # folder to cache decoded, resized images in, also for later runs
    device_cache: bool = False  # keep the images in device memory instead; for sets that fit
    validation: float = 0.0  # fraction of training images held out to choose the best checkpoint
    group: str = ""  # keeps images together in data.validation: regex of a path, or FILE.csv:COLUMN
    bad_images: BadImages = "error"  # unreadable images: stop, or skip up to 1 % of a domain
    limit: int = 0  # use only the first N images of each folder; 0: all
    max_megapixels: float = 0  # of the largest picture to open; 0: what the free memory allows

    def __post_init__(self) -> None:
        for name in self.domains:
            if (
                not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*(_[A-Za-z0-9-]+)*", name)
                or "_to_" in name
            ):
                raise UserError(
                    f"data.domains: '{name}' is not a valid domain name; use letters, digits, - "
                    "and single _ (but not _to_)",
                    option="data.domains",
                )
        if len(set(self.domains)) != len(self.domains) or len(self.domains) < 2:
            raise UserError(
                f"data.domains must be 2 or more different names, got {self.domains}",
                option="data.domains",
            )
        if len(self.channels) not in (1, len(self.domains)) or not all(
            0 < count <= MAX_CHANNELS for count in self.channels
        ):
            raise UserError(
                f"data.channels must be one number from 1 to {MAX_CHANNELS}, or one for each "
                f"domain, got {str(self.channels)[:60]}",
                option="data.channels",
            )
        for option, folders in (("train", self.train), ("test", self.test)):
            for name in folders:
                if name not in self.domains:
                    names = ",".join(folders)
                    known = ", ".join(f"data.{option}.{domain}" for domain in self.domains)
                    raise UserError(
                        f"data.{option}.{name}: data.domains has no domain '{name}'; add "
                        f"data.domains={names}, or use {known}",
                        option=f"data.{option}.{name}",
                    )
        self._check_values()
        for option in ("load_size", "crop_size"):
            if not 1 <= getattr(self, option) <= MAX_SIDE:
                raise UserError(
                    f"data.{option} must be 1 to {MAX_SIDE}, got {getattr(self, option)}",
                    option=f"data.{option}",
                )
        if self.fit != "crop" and self.crop_size > self.load_size:
            raise UserError(
                f"data.crop_size={self.crop_size} is larger than data.load_size={self.load_size}; "
                "raise the load size or lower the crop",
                option="data.crop_size",
            )
        invalid_crops = self.progressive_crops and (
            self.progressive_crops != sorted(set(self.progressive_crops))
            or self.progressive_crops[0] < 1
            or self.progressive_crops[-1] != self.crop_size
        )
        if invalid_crops:
            raise UserError(
                "data.progressive_crops must be increasing sizes that end with "
                f"data.crop_size={self.crop_size}, got {str(self.progressive_crops)[:60]}",
                option="data.progressive_crops",
            )
        for option in ("rotate", "color_jitter", "workers", "limit"):
            if getattr(self, option) < 0:
                raise UserError(
                    f"data.{option} must be 0 or more, got {getattr(self, option)}",
                    option=f"data.{option}",
                )
        if not 0 <= self.memory_cache_gb <= MAX_MEMORY_CACHE_GB:
            raise UserError(
                f"data.memory_cache_gb must be 0 to {MAX_MEMORY_CACHE_GB} GB, "
                f"got {self.memory_cache_gb}",
                option="data.memory_cache_gb",
            )
        if self.color_jitter and not set(self.channels) <= {1, 3}:
            raise UserError(
                "data.color_jitter works on grey and RGB images only; set it to 0",
                option="data.color_jitter",
            )
        if not 0 <= self.validation < 1:
            raise UserError(
                f"data.validation must be at least 0 and below 1, got {self.validation}",
                option="data.validation",
            )
        if self.rotate > 180:
            raise UserError(
                f"data.rotate must be at most 180 degrees, got {self.rotate}", option="data.rotate"
            )
        if self.color_jitter >= 1:
            raise UserError(
                f"data.color_jitter must be below 1, got {self.color_jitter}",
                option="data.color_jitter",
            )

    def _check_values(self) -> None:
        """Raise UserError for a range, type or page that no file can have."""
        for option, values in (("range", self.range), ("dtype", self.dtype)):
            for name, value in values.items():
                if name not in (*self.domains, ALL_DOMAINS):
                    known = ", ".join(f"data.{option}.{domain}" for domain in self.domains)
                    raise UserError(
                        f"data.{option}.{name}: data.domains has no domain '{name}'; use {known}",
                        option=f"data.{option}.{name}",
                    )
                if option == "dtype" and value not in DTYPES:
                    raise UserError(
                        f"data.dtype.{name}: '{value}' is not one of {', '.join(DTYPES)}",
                        option=f"data.dtype.{name}",
                    )
                if option == "range" and value not in ("auto", "type"):
                    parse_range(value, f"data.range.{name}")
        try:
            re.compile("" if TABLE.fullmatch(self.group) else self.group)
        except (re.error, RecursionError, OverflowError) as error:
            raise UserError(
                f"data.group='{self.group[:60]}' is not a regular expression: {error}",
                option="data.group",
            ) from None
        if self.max_megapixels < 0:
            raise UserError(
                f"data.max_megapixels must be at least 0, got {self.max_megapixels}",
                option="data.max_megapixels",
            )
        if self.page < -1:
            raise UserError(f"data.page must be -1 or more, got {self.page}", option="data.page")

    def formats(self) -> dict[str, DomainFormat]:
        """Return domain -> what its files hold, with the ranges that were given or measured.

        A range of `auto` or `type` is one that was not measured yet: it is left out.
        """
        formats = {}
        for domain, channels in self.channels_of().items():
            text = self.range.get(domain, self.range.get(ALL_DOMAINS, "auto"))
            dtype = self.dtype.get(domain, self.dtype.get(ALL_DOMAINS, "uint8"))
            low, high = (None, None) if text in ("auto", "type") else parse_range(
                text, f"data.range.{domain}"
            )  # fmt: skip
            formats[domain] = DomainFormat(channels, self.page, low, high, dtype)
        return formats

    def crops(self) -> list[int]:
        """Return the sides of the training crops, in the order in which they are trained on."""
        return self.progressive_crops or [self.crop_size]

    def channels_of(self) -> dict[str, int]:
        """Return domain name -> channel count, in the order of the domains."""
        counts = self.channels * (len(self.domains) if len(self.channels) == 1 else 1)
        return dict(zip(self.domains, counts, strict=True))
