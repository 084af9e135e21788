"""The built-in range estimators: `MinMax`, `Percentile`, `MSE` and `Entropy`.

An activation's numbers stream into a histogram. A weight is the same each time: the last one shown
is looked at as it is.
"""

from __future__ import annotations

from functools import partial
from typing import final

from pydantic import Field

from edgewright.core import Settings
from edgewright.quantization.calibration._entropy import least_divergence
from edgewright.quantization.calibration._extremes import Extremes
from edgewright.quantization.calibration._observer import StreamObserver, WeightObserver
from edgewright.quantization.calibration._percentile import (
    percentile_of_histogram,
    percentile_of_rows,
)
from edgewright.quantization.calibration._squared_error import (
    least_error_of_histogram,
    least_error_of_rows,
)
from edgewright.quantization.scheme import Grid, Observer, Positional


@final
class MinMax(Settings):
    """From the least to the greatest number: the quickest, and never clips; outliers cost steps.

    Example:
        >>> str(MinMax())
        'minmax'
    """

    def observer(self, grid: Grid) -> Observer:
        """See `RangeEstimator.observer`."""
        return Extremes(grid)

    def __str__(self) -> str:
        """In words."""
        return "minmax"


@final
class Percentile(Positional):
    """The range of the middle share of the numbers; the others are outliers.

    Attributes:
        percent: Share of the numbers to keep, in percent: above 50, at most 100.

    Raises:
        UsageError: ``percent`` is out of its range.

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
            return WeightObserver(grid, partial(percentile_of_rows, percentile=self.percent))
        return StreamObserver(partial(percentile_of_histogram, percentile=self.percent))

    def __str__(self) -> str:
        """In words."""
        return f"percentile ({self.percent:g} %)"


@final
class MSE(Settings):
    """The range with the smallest squared error: the default, best at few bits.

    Example:
        >>> str(MSE())
        'mse'
    """

    def observer(self, grid: Grid) -> Observer:
        """See `RangeEstimator.observer`."""
        if grid.role == "weight":
            return WeightObserver(grid, partial(least_error_of_rows, grid=grid))
        return StreamObserver(partial(least_error_of_histogram, grid=grid))

    def __str__(self) -> str:
        """In words."""
        return "mse"


@final
class Entropy(Settings):
    """The range with the smallest divergence of the histograms (Migacz 2017).

    For weights it is `MinMax`, as in its source: they have no outliers to clip.

    Example:
        >>> str(Entropy())
        'entropy'
    """

    def observer(self, grid: Grid) -> Observer:
        """See `RangeEstimator.observer`."""
        if grid.role == "weight":
            return Extremes(grid)
        return StreamObserver(partial(least_divergence, grid=grid))

    def __str__(self) -> str:
        """In words."""
        return "entropy"
