"""Map the values of a domain's files (CT numbers, reflectances, heights) to [0, 1] and back."""

import json
import math
from dataclasses import dataclass

import numpy as np

from common.errors import UserError

DTYPES = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32",
    "float64",
)  # fmt: skip


@dataclass(frozen=True)
class DomainFormat:
    """What the files of a domain hold: bands, page, and which values are black and white.

    Without a range the files are 8-bit pictures, 0 to 255. With one, the value `low` is -1 and
    `high` is 1 in the networks, and translations have values of type `dtype`.
    """

    channels: int = 3
    page: int = 0  # of a file with several; -1: all of them, as channels
    low: float | None = None
    high: float | None = None
    dtype: str = "uint8"  # of the values of translations

    @property
    def has_range(self) -> bool:
        """Whether the files hold other values than 8-bit pictures."""
        return self.low is not None

    @property
    def span(self) -> float | None:
        """The difference between white and black in the units of the files; None without range."""
        return None if self.low is None or self.high is None else self.high - self.low

    @property
    def bytes_per_pixel(self) -> int:
        """The memory that a pixel takes in a cache: floats take four bytes a channel."""
        return self.channels * (4 if self.has_range else 1)

    def to_unit(self, values: np.ndarray) -> np.ndarray:
        """Return values as float32, 0 at `low` and 1 at `high`; values outside are clipped.

        NaN, which marks what is invalid, becomes 0.
        """
        low, high = self._bounds()
        unit = (values.astype(np.float64) - low) / (high - low)
        return np.nan_to_num(unit.clip(0, 1), nan=0.0).astype(np.float32)

    def to_values(self, unit: np.ndarray) -> np.ndarray:
        """Return the values of [0, 1] as `dtype`, rounded if that is an integer type."""
        low, high = self._bounds()
        values = unit.astype(np.float64) * (high - low) + low
        dtype = np.dtype(self.dtype)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            values = np.rint(values).clip(limits.min, limits.max)
        return values.astype(dtype)

    def with_marks(self, values: np.ndarray, marks: np.ndarray) -> np.ndarray:
        """Return translated values [H, W, C] with the invalid pixels of the input put back.

        `marks` [H, W, 1] is a masked array of the input's invalid values (NaN, nodata), masked
        where the input is valid. A mark that `dtype` cannot hold becomes `low`.
        """
        dtype = np.dtype(self.dtype)
        invalid = ~np.ma.getmaskarray(marks)
        if not invalid.any():
            return values
        filling = np.ma.getdata(marks).astype(np.float64)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            fits = (filling >= limits.min) & (filling <= limits.max)  # false for NaN
            filling = np.where(fits, filling, self._bounds()[0])
        return np.where(invalid, filling, values).astype(dtype)

    def _bounds(self) -> tuple[float, float]:
        assert self.low is not None and self.high is not None
        return self.low, self.high


def type_range(dtype: str) -> tuple[float, float]:
    """Return the lowest and the highest value of a type; 0 and 1 for floats."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return 0.0, 1.0
    return float(np.iinfo(kind).min), float(np.iinfo(kind).max)


def parse_range(text: str, option: str) -> tuple[float, float]:
    """Return the numbers of "[low,high]"; UserError names the option."""
    try:
        low, high = (float(number) for number in json.loads(text))
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError
    except (ValueError, TypeError):
        raise UserError(
            f"{option}: '{text[:60]}' is not a range; write auto, type, or two numbers such as "
            "[-1000,3000]",
            option=option,
        ) from None
    return low, high


def range_text(low: float, high: float) -> str:
    """Return a range as `parse_range` reads it."""
    return json.dumps([low, high])
