"""The built-in range estimators: `MinMax`, `Percentile`, `MSE` and `Entropy`.

Activations are collected in a histogram. A weight does not change between batches, so its observer
uses the last observed tensor directly.
"""

from __future__ import annotations

from functools import partial
from typing import final

from pydantic import Field

from edgewright.core import Positional, Settings
from edgewright.quantization.calibration._entropy import find_entropy_range
from edgewright.quantization.calibration._min_max import MinMaxObserver
from edgewright.quantization.calibration._observer import StreamObserver, WeightObserver
from edgewright.quantization.calibration._percentile import (
    find_percentile_range_of_histogram,
    find_percentile_range_of_rows,
)
from edgewright.quantization.calibration._squared_error import (
    find_mse_range_of_rows,
    mse_range_of_histogram,
)
from edgewright.quantization.scheme import Grid, Observer


@final
class MinMax(Settings):
    """The range from the minimum to the maximum.

    This is the fastest estimator and never clips, but outliers make the scale coarse.

    Example:
        >>> str(MinMax())
        'minmax'
    """

    def observer(self, grid: Grid) -> Observer:
        """See `RangeEstimator.observer`."""
        return MinMaxObserver(grid)

    def __str__(self) -> str:
        """In words."""
        return "minmax"


@final
class Percentile(Positional):
    """The range of the middle percentage of the values; values outside are treated as outliers.

    Attributes:
        percent: Percentage of the values to keep: above 50, at most 100.

    Raises:
        UsageError: ``percent`` is out of range.

    Example:
        >>> str(Percentile(99.9))
        'percentile (99.9 %)'
    """

    percent: float = Field(default=99.99, gt=50, le=100)

    def __init__(self, percent: float = 99.99) -> None:
        self._set(percent=percent)

    def observer(self, grid: Grid) -> Observer:
        """See `RangeEstimator.observer`."""
        if grid.role == "weight":
            return WeightObserver(
                grid, partial(find_percentile_range_of_rows, percentile=self.percent))
        return StreamObserver(partial(find_percentile_range_of_histogram, percentile=self.percent))

    def __str__(self) -> str:
        """In words."""
        return f"percentile ({self.percent:g} %)"


@final
class MSE(Settings):
    """The range with the smallest squared error; the default, and the best choice for few bits.

    Example:
        >>> str(MSE())
        'mse'
    """

    def observer(self, grid: Grid) -> Observer:
        """See `RangeEstimator.observer`."""
        if grid.role == "weight":
            return WeightObserver(grid, partial(find_mse_range_of_rows, grid=grid))
        return StreamObserver(partial(mse_range_of_histogram, grid=grid))

    def __str__(self) -> str:
        """In words."""
        return "mse"


@final
class Entropy(Settings):
    """The range with the smallest divergence between histograms (Migacz 2017).

    For weights it is the same as `MinMax`, as in the source, because weights have no outliers to
    clip.

    Example:
        >>> str(Entropy())
        'entropy'
    """

    def observer(self, grid: Grid) -> Observer:
        """See `RangeEstimator.observer`."""
        if grid.role == "weight":
            return MinMaxObserver(grid)
        return StreamObserver(partial(find_entropy_range, grid=grid))

    def __str__(self) -> str:
        """In words."""
        return "entropy"
