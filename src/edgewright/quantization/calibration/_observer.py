"""Observers that apply a rule to a histogram of activations, or to a weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

from torch import Tensor

from edgewright.quantization.calibration._histogram import Histogram
from edgewright.quantization.calibration._values import (
    arrange_rows_by_scale,
    clip_to_extremes,
    min_max_of_rows,
    no_values_error,
)
from edgewright.quantization.scheme import Grid, Observer, RangeEstimator
from edgewright.quantization.simulation import BinaryLevels

_Range: TypeAlias = tuple[Tensor, Tensor]


def create_observer(estimator: RangeEstimator, grid: Grid) -> Observer:
    """Create the observer of one weight or activation.

    The two levels of a binary activation are always found by `BinaryLevels`.

    Args:
        estimator: How the range is found.
        grid: The grid whose range is needed.

    Example:
        >>> import torch
        >>> from edgewright.quantization import MinMax
        >>> grid = Grid(8, signed=False, symmetric=False, role="activation")
        >>> observer = create_observer(MinMax(), grid)
        >>> observer.update(torch.tensor([1., 3.]))
        >>> observer.range()
        (tensor(0.), tensor(3.))
    """
    if grid.bits == 1 and grid.role == "activation":
        return BinaryLevels()
    return estimator.observer(grid)


@final
class StreamObserver:
    """Finds one range from the histogram of all observed values.

    Args:
        rule: Computes the range from the histogram.
    """

    def __init__(self, rule: Callable[[Histogram], _Range]) -> None:
        self._rule = rule
        self._histogram = Histogram()

    def update(self, x: Tensor) -> None:
        """See `Observer.update`."""
        self._histogram.update(x)

    def range(self) -> _Range:
        """See `Observer.range`."""
        return clip_to_extremes(*self._rule(self._histogram), self._histogram.extremes())


@final
class WeightObserver:
    """Finds a range for each row of the last observed tensor, which it references without copying.

    Args:
        grid: Defines the rows; see `arrange_rows_by_scale`.
        rule: Computes a range per row from the rows and the minimum and maximum of each.
    """

    def __init__(self, grid: Grid, rule: Callable[[Tensor, Tensor, Tensor], _Range]) -> None:
        self._grid = grid
        self._rule = rule
        self._weight: Tensor | None = None

    def update(self, x: Tensor) -> None:
        """See `Observer.update`."""
        if x.numel() == 0:
            return
        min_max_of_rows(arrange_rows_by_scale(x, self._grid))
        self._weight = x.detach()

    def range(self) -> _Range:
        """See `Observer.range`."""
        if self._weight is None:
            raise no_values_error()
        rows = arrange_rows_by_scale(self._weight, self._grid)
        low, high = min_max_of_rows(rows)
        found = self._rule(rows.reshape(-1, rows.shape[-1]), low.flatten(), high.flatten())
        return clip_to_extremes(found[0].view_as(low), found[1].view_as(low), (low, high))
